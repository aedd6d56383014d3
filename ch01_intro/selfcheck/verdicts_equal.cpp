// SPDX-License-Identifier: Apache-2.0
// Verdicts on what must be equal everywhere: versions, links, bits.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "ch01_intro/selfcheck/verdicts.h"

namespace dai::intro {
namespace {

// Names each rank whose value is not the majority's.
template <class ValueOf>
void judge_equal(const Ranks& ranks, const std::string& check,
                 const std::string& what, bool warning,
                 const std::string& advice, Findings& found,
                 ValueOf&& value_of) {
  std::vector<std::string> values;
  for (const RankReport& rank : ranks) {
    values.push_back(rank.reported ? value_of(rank) : "");
  }
  const Majority most = majority_of(values);
  for (int r = 0; r < static_cast<int>(ranks.size()); ++r) {
    if (values[r].empty() || values[r] == most.value) continue;
    found.push_back({check,
                     host_of(ranks, r),
                     {r},
                     warning,
                     fmt::format("{} {}", what, values[r]),
                     fmt::format("{} {} as on {} of {} ranks", what, most.value,
                                 most.count, most.known),
                     advice});
  }
}

const Link* used_link(const RankReport& rank) {
  for (const Link& link : rank.facts.machine.links) {
    if (link.address == rank.facts.address) return &link;
  }
  return nullptr;
}

std::string number_or_unknown(int value) {
  return value < 0 ? "" : std::to_string(value);
}

}  // namespace

Majority majority_of(const std::vector<std::string>& by_rank) {
  Majority most;
  for (const std::string& value : by_rank) {
    if (value.empty()) continue;
    ++most.known;
    const auto count =
        static_cast<int>(std::count(by_rank.begin(), by_rank.end(), value));
    if (count > most.count) most.value = value, most.count = count;
  }
  return most;
}

// A program, library or GPU runtime that differs breaks the wire or the
// numbers; a kernel or libc that differs is common and seldom harmful.
void judge_versions(const Ranks& ranks, Findings& found) {
  for (int r = 0; r < static_cast<int>(ranks.size()); ++r) {
    if (ranks[r].foreign.empty()) continue;
    found.push_back({"versions",
                     host_of(ranks, r),
                     {r},
                     false,
                     "speaks " + ranks[r].foreign,
                     "the format of rank 0's build",
                     kCopyOneBuild});
  }
  std::set<std::string> names;
  for (const RankReport& rank : ranks) {
    for (const auto& one : rank.facts.machine.versions) names.insert(one.first);
  }
  for (const std::string& name : names) {
    const bool harmless = name == "kernel" || name == "libc";
    judge_equal(ranks, "versions", name, harmless,
                harmless ? "bring all hosts to one release of the system"
                : name == "binary" ? kCopyOneBuild
                                   : "install the same release on every host",
                found, [&](const RankReport& rank) {
                  const auto& all = rank.facts.machine.versions;
                  const auto at = all.find(name);
                  return at == all.end() ? std::string("none") : at->second;
                });
  }
}

void judge_links(const Ranks& ranks, Findings& found) {
  for (int r = 0; r < static_cast<int>(ranks.size()); ++r) {
    if (!ranks[r].reported) continue;
    const Link* link = used_link(ranks[r]);
    if (link && !link->running) {
      found.push_back(
          {"links",
           host_of(ranks, r),
           {r},
           false,
           fmt::format("{} is down or has no carrier", link->name),
           "up and running",
           fmt::format("check the cable, or `ip link set {} up`", link->name)});
    }
  }
  judge_equal(ranks, "links", "MTU", /*warning=*/false,
              "set one MTU on all hosts and the switches between them: "
              "larger packets are lost in silence",
              found, [](const RankReport& rank) {
                const Link* link = used_link(rank);
                return link && !link->loopback ? number_or_unknown(link->mtu)
                                               : std::string();
              });
  judge_equal(ranks, "links", "speed in Mbit/s", /*warning=*/true,
              "the slowest link sets the pace of all: check cable, port and "
              "auto-negotiation",
              found, [](const RankReport& rank) {
                const Link* link = used_link(rank);
                return link && !link->loopback
                           ? number_or_unknown(link->speed_mbit)
                           : std::string();
              });
}

// The same program on the same input: different bits mean different kernels
// (a mixed generation of processors), or a processor that computes wrongly.
void judge_determinism(const Ranks& ranks, Findings& found) {
  std::set<std::string> names;
  for (const RankReport& rank : ranks) {
    for (const auto& one : rank.group.bits) names.insert(one.first);
  }
  for (const std::string& name : names) {
    const auto find_in = [&](const RankReport& rank) {
      for (const auto& [operation, hash] : rank.group.bits) {
        if (operation == name) {
          return fmt::format("{} ({}, {})", hash, rank.group.kernels,
                             rank.facts.machine.cpu_model);
        }
      }
      return std::string();
    };
    std::vector<std::string> hashes;
    for (const RankReport& rank : ranks) {
      const std::string whole = find_in(rank);
      hashes.push_back(whole.substr(0, whole.find(' ')));
    }
    const Majority most = majority_of(hashes);
    std::string expected;
    for (const RankReport& rank : ranks) {
      const std::string whole = find_in(rank);
      if (expected.empty() && whole.starts_with(most.value)) expected = whole;
    }
    for (int r = 0; r < static_cast<int>(ranks.size()); ++r) {
      if (hashes[r].empty() || hashes[r] == most.value) continue;
      found.push_back(
          {"determinism",
           host_of(ranks, r),
           {r},
           /*warning=*/true,
           fmt::format("{} gives bits {}", name, find_in(ranks[r])),
           fmt::format("bits {} as on {} of {} ranks", expected, most.count,
                       most.known),
           "use one generation of processors, or set ATEN_CPU_CAPABILITY "
           "and MKL_CBWR alike; --strict makes this a failure"});
    }
  }
}

}  // namespace dai::intro
