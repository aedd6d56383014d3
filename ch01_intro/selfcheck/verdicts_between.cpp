// SPDX-License-Identifier: Apache-2.0
// Verdicts on what happens between ranks: arrival, ping, clock, collectives.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "ch01_intro/selfcheck/verdicts.h"

namespace dai::intro {
namespace {

// 0.0123 s, 3600 s: as many digits as it takes to see it.
std::string seconds(double us) {
  return fmt::format("{:.4g} s", std::fabs(us) / 1e6);
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

}  // namespace

// Debian writes "127.0.1.1 NAME" into /etc/hosts. PyTorch's Gloo, when told
// nothing, publishes the address that its host's name has: the peers are then
// sent to themselves. On one machine that does no harm.
void judge_resolve(const Ranks& ranks, Findings& found) {
  std::set<std::string> hosts;
  for (const RankReport& rank : ranks) {
    if (rank.reported) hosts.insert(rank.facts.machine.host);
  }
  if (hosts.size() < 2) return;
  for (int r = 0; r < static_cast<int>(ranks.size()); ++r) {
    if (!ranks[r].reported) continue;
    const RankFacts& facts = ranks[r].facts;
    const auto& addresses = facts.own_name_addresses;
    const bool outside = std::any_of(
        addresses.begin(), addresses.end(),
        [](const std::string& a) { return !is_loopback_address(a); });
    if (outside) continue;
    found.push_back(
        {"resolve",
         facts.machine.host,
         {r},
         /*warning=*/true,
         addresses.empty()
             ? "its own name does not resolve"
             : fmt::format("its own name means {}", fmt::join(addresses, " ")),
         "an address that the other hosts can reach",
         fmt::format("correct /etc/hosts, or set GLOO_SOCKET_IFNAME for "
                     "programs that use PyTorch's Gloo: it publishes the "
                     "address of the host's name (here --interface, or {})",
                     facts.address)});
  }
}

void judge_arrival(const Ranks& ranks, Findings& found) {
  for (int r = 0; r < static_cast<int>(ranks.size()); ++r) {
    const RankReport& rank = ranks[r];
    const std::string host = host_of(ranks, r);
    if (!rank.arrived) {
      found.push_back({"arrive",
                       host,
                       {r},
                       false,
                       "nothing was heard of it",
                       "a report within the time limit",
                       "is its process started, and not stopped? does it "
                       "print a failure of its own?"});
      continue;
    }
    if (rank.foreign.empty() &&
        rank.facts.world_size != static_cast<int>(ranks.size())) {
      found.push_back(
          {"arrive",
           host,
           {r},
           false,
           fmt::format("launched with WORLD_SIZE={}", rank.facts.world_size),
           fmt::format("WORLD_SIZE={} as on rank 0", ranks.size()),
           "launch all ranks with the same number of them"});
    }
    if (!rank.silent.empty()) {
      found.push_back(
          {rank.silent,
           host,
           {r},
           false,
           fmt::format("silent since it began this stage{}{}",
                       rank.state.empty() ? "" : "; its process ", rank.state),
           "a report within the time limit",
           fmt::format("look at process {} on {}", rank.facts.machine.pid,
                       host)});
    }
  }
}

// A rank that nobody reaches is the culprit itself; a pair that cannot talk is
// named from the side that tried.
void judge_ping(const Ranks& ranks, Findings& found) {
  const int size = static_cast<int>(ranks.size());
  std::vector<int> tried(size, 0), failed(size, 0);
  for (const RankReport& rank : ranks) {
    for (const PeerPing& ping : rank.pings) {
      ++tried[ping.rank];
      failed[ping.rank] += !ping.error.empty();
    }
  }
  const auto lost = [&](int r) {
    return tried[r] > 1 && tried[r] == failed[r];
  };
  for (int r = 0; r < size; ++r) {
    if (!ranks[r].reported) continue;
    for (const PeerPing& ping : ranks[r].pings) {
      if (ping.error.empty() || (lost(ping.rank) && !lost(r))) continue;
      const RankFacts& peer = ranks[ping.rank].facts;
      found.push_back(
          {"ping",
           host_of(ranks, r),
           {r},
           false,
           fmt::format("does not reach rank {} on host {} at {}:{}: {}",
                       ping.rank, host_of(ranks, ping.rank), peer.address,
                       peer.port, ping.error),
           "an answer",
           fmt::format("check firewall and routes between the two hosts; "
                       "--interface chooses another network (now {})",
                       ranks[r].facts.address)});
    }
  }
  for (int r = 0; r < size; ++r) {
    if (!lost(r) || !ranks[r].arrived) continue;
    std::string why;
    for (const RankReport& rank : ranks) {
      for (const PeerPing& ping : rank.pings) {
        if (ping.rank == r) why = ping.error;
      }
    }
    found.push_back(
        {"ping",
         host_of(ranks, r),
         {r},
         false,
         fmt::format("none of the {} ranks that tried reaches it at {}:{}: {}",
                     tried[r], ranks[r].facts.address, ranks[r].facts.port,
                     why),
         "an answer to each of them",
         "check its firewall, or name the network that all hosts share with "
         "--interface"});
  }
}

// The reference is the median of all clocks, so that a wrong rank 0 does not
// make everybody else look wrong. Of two clocks it is rank 0's.
void judge_clock(const Ranks& ranks, const SelfcheckLimits& limits,
                 Findings& found) {
  struct Offset {
    int rank;
    double us;     // this rank's clock minus rank 0's
    double error;  // of that figure
  };
  std::vector<Offset> offsets{{0, 0, 0}};
  for (int r = 1; r < static_cast<int>(ranks.size()); ++r) {
    for (const PeerPing& ping : ranks[r].pings) {
      if (ping.rank != 0 || !ping.error.empty()) continue;
      offsets.push_back({r, -ping.clock_offset_us, ping.clock_error_us});
    }
  }
  std::vector<double> sorted;
  for (const Offset& offset : offsets) sorted.push_back(offset.us);
  std::sort(sorted.begin(), sorted.end());
  const bool pair = offsets.size() == 2;
  const double reference = pair ? 0 : sorted[(sorted.size() - 1) / 2];
  for (const Offset& offset : offsets) {
    const double skew = offset.us - reference;
    if (std::fabs(skew) - offset.error <= limits.max_clock_skew_ms * 1e3) {
      continue;
    }
    const std::string host = host_of(ranks, offset.rank);
    found.push_back(
        {"clock",
         host,
         {offset.rank},
         false,
         fmt::format(
             "{} {} {}", seconds(skew), skew > 0 ? "ahead of" : "behind",
             pair ? fmt::format("rank 0's on host {}", host_of(ranks, 0))
                  : "the median of all clocks"),
         fmt::format("within {}", seconds(limits.max_clock_skew_ms * 1e3)),
         fmt::format("start a time service (chrony, systemd-timesyncd) on "
                     "{}{}",
                     host, pair ? " or on rank 0's host" : "")});
  }
}

void judge_collectives(const Ranks& ranks, Findings& found) {
  for (int r = 0; r < static_cast<int>(ranks.size()); ++r) {
    if (!ranks[r].grouped) continue;
    const GroupReport& group = ranks[r].group;
    // Of one stopped rank all others have an error to tell; the finding of
    // judge_arrival() names it.
    const bool bystander = std::any_of(
        ranks.begin(), ranks.end(),
        [](const RankReport& rank) { return rank.silent == "collectives"; });
    if (!group.error.empty() && !bystander) {
      found.push_back({"collectives",
                       host_of(ranks, r),
                       {r},
                       false,
                       first_line(group.error),
                       "a result",
                       "the stages before this one passed: try --backend "
                       "gloo, then NCCL_DEBUG=INFO or DAI_LOG=debug"});
    }
    for (const auto& [name, error] : group.collective_errors) {
      if (error == 0) continue;
      found.push_back(
          {"collectives",
           host_of(ranks, r),
           {r},
           false,
           fmt::format("{} is off by {:g}", name, error),
           "exact sums of small integers: 0",
           fmt::format("take {} out of the job; test its memory and network "
                       "card",
                       host_of(ranks, r))});
    }
  }
}

}  // namespace dai::intro
