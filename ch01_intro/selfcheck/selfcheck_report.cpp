// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/selfcheck/selfcheck_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "common/report.h"

namespace dai::intro {
namespace {

// A matrix of more columns would not fit a screen; then the worst pairs are
// named instead.
constexpr int kMostColumns = 12;
constexpr int kWorstPairs = 8;

std::string gib(std::int64_t bytes) {
  return bytes < 0 ? "?" : fmt::format("{:.1f}", bytes / 1073741824.0);
}

std::string machines_table(const SelfcheckResult& result) {
  Table table({"rank", "host", "address", "device", "cores", "threads",
               "memory free, GiB", "open files", "/dev/shm, GiB"});
  for (int r = 0; r < static_cast<int>(result.ranks.size()); ++r) {
    if (!result.ranks[r].reported) continue;
    const RankFacts& facts = result.ranks[r].facts;
    const HostFacts& machine = facts.machine;
    table.add_row(
        {std::to_string(r), machine.host, facts.address,
         facts.device.empty() ? "none" : facts.device,
         fmt::format("{} of {}", machine.cores(), machine.online_cores),
         std::to_string(facts.threads), gib(machine.memory_available_bytes),
         std::to_string(machine.open_files), gib(machine.shm_bytes)});
  }
  return table.to_string();
}

struct Pair {
  int from;
  PeerPing ping;
};

std::vector<Pair> pairs_of(const SelfcheckResult& result) {
  std::vector<Pair> pairs;
  for (int r = 0; r < static_cast<int>(result.ranks.size()); ++r) {
    for (const PeerPing& ping : result.ranks[r].pings) {
      pairs.push_back({r, ping});
    }
  }
  return pairs;
}

// Slowest first, unreached ones before all.
std::string worst_pairs_table(std::vector<Pair> pairs) {
  std::stable_sort(pairs.begin(), pairs.end(),
                   [](const auto& a, const auto& b) {
                     return std::pair(a.ping.error.empty(), -a.ping.rtt_us) <
                            std::pair(b.ping.error.empty(), -b.ping.rtt_us);
                   });
  Table table({"slowest pairs", "round trip, us", "MB/s"});
  for (std::size_t i = 0; i < pairs.size() && i < kWorstPairs; ++i) {
    const PeerPing& ping = pairs[i].ping;
    const bool ok = ping.error.empty();
    table.add_row({fmt::format("{} to {}", pairs[i].from, ping.rank),
                   ok ? fmt::format("{:.0f}", ping.rtt_us) : "none",
                   ok ? fmt::format("{:.0f}", ping.mb_per_s) : "none"});
  }
  return table.to_string();
}

std::string pings_table(const SelfcheckResult& result) {
  const int size = static_cast<int>(result.ranks.size());
  const std::vector<Pair> pairs = pairs_of(result);
  if (pairs.empty()) return "";
  if (size > kMostColumns) return worst_pairs_table(pairs) + "\n";
  std::vector<std::string> header{"us, MB/s; from"};
  for (int r = 0; r < size; ++r) header.push_back(fmt::format("to {}", r));
  Table table(header);
  for (int from = 0; from < size; ++from) {
    std::vector<std::string> row(size + 1);
    row[0] = std::to_string(from);
    for (const PeerPing& ping : result.ranks[from].pings) {
      row[ping.rank + 1] =
          ping.error.empty()
              ? fmt::format("{:.0f}, {:.0f}", ping.rtt_us, ping.mb_per_s)
              : "none";
    }
    table.add_row(row);
  }
  return table.to_string() + "\n";
}

}  // namespace

int SelfcheckResult::failed(const std::string& check) const {
  std::set<int> named;
  for (const Finding& finding : findings) {
    if (finding.check != check || finding.warning) continue;
    named.insert(finding.ranks.begin(), finding.ranks.end());
  }
  return static_cast<int>(named.size());
}

int SelfcheckResult::cells_not_run() const {
  int count = 0;
  for (int r = 0; r < static_cast<int>(ranks.size()); ++r) {
    if (alone && r != rank) continue;
    for (const std::string& check : kSelfchecks) {
      count += selfcheck_cell(ranks, findings, r, check) == "-";
    }
  }
  return count;
}

std::string selfcheck_text(const SelfcheckResult& result) {
  std::string text = machines_table(result) + "\n" + pings_table(result);
  for (const auto& [name, value] : selfcheck_metrics(result)) {
    text += fmt::format("{}: {:.4g}\n", name, value);
  }
  text += "\n" + selfcheck_matrix(result.ranks, result.findings) + "\n";
  for (const Finding& finding : result.findings) text += finding.line() + "\n";
  if (!result.not_run.empty()) {
    text +=
        fmt::format("not run: collectives, determinism: {}\n", result.not_run);
  }
  return text;
}

std::string selfcheck_own_text(const SelfcheckResult& result) {
  std::string stages;
  for (const std::string& check : kSelfchecks) {
    stages += fmt::format(
        "{}{} {}", stages.empty() ? "" : ", ", check,
        selfcheck_cell(result.ranks, result.findings, result.rank, check));
  }
  std::string text;
  for (const Finding& finding : result.findings) text += finding.line() + "\n";
  return text + fmt::format("rank {} alone: {}\n", result.rank, stages);
}

std::vector<std::pair<std::string, double>> selfcheck_metrics(
    const SelfcheckResult& result) {
  std::vector<double> round_trips;
  double slowest_mb_per_s = INFINITY, skew_us = 0;
  for (const Pair& pair : pairs_of(result)) {
    if (!pair.ping.error.empty()) continue;
    round_trips.push_back(pair.ping.rtt_us);
    slowest_mb_per_s = std::min(slowest_mb_per_s, pair.ping.mb_per_s);
    if (pair.ping.rank == 0) {
      skew_us = std::max(skew_us, std::fabs(pair.ping.clock_offset_us));
    }
  }
  std::vector<std::pair<std::string, double>> metrics;
  if (!round_trips.empty()) {
    std::sort(round_trips.begin(), round_trips.end());
    metrics = {{"ping_median_us", round_trips[round_trips.size() / 2]},
               {"ping_slowest_us", round_trips.back()},
               {"ping_slowest_mb_per_s", slowest_mb_per_s},
               {"clock_skew_us", skew_us}};
  }
  double latency_us = -1, mb_per_s = INFINITY;
  for (const RankReport& rank : result.ranks) {
    if (!rank.grouped) continue;
    latency_us = std::max(latency_us, rank.group.latency_us);
    if (rank.group.mb_per_s > 0) {
      mb_per_s = std::min(mb_per_s, rank.group.mb_per_s);
    }
  }
  if (latency_us >= 0)
    metrics.emplace_back("all_reduce_4_bytes_us", latency_us);
  if (std::isfinite(mb_per_s)) {
    metrics.emplace_back("all_reduce_bus_mb_per_s", mb_per_s);
  }
  return metrics;
}

nlohmann::ordered_json selfcheck_json(const SelfcheckResult& result) {
  auto matrix = nlohmann::ordered_json::array();
  auto ranks = nlohmann::ordered_json::array();
  for (int r = 0; r < static_cast<int>(result.ranks.size()); ++r) {
    nlohmann::ordered_json row = {{"rank", r},
                                  {"host", host_of(result.ranks, r)}};
    for (const std::string& check : kSelfchecks) {
      row[check] = selfcheck_cell(result.ranks, result.findings, r, check);
    }
    matrix.push_back(row);
    const RankReport& rank = result.ranks[r];
    nlohmann::json facts = rank.facts, pings = rank.pings, group = rank.group;
    ranks.push_back({{"rank", r},
                     {"arrived", rank.arrived},
                     {"facts", rank.arrived ? facts : nlohmann::json()},
                     {"pings", pings},
                     {"group", rank.grouped ? group : nlohmann::json()}});
  }
  const nlohmann::json findings = result.findings;
  return {{"matrix", matrix},
          {"findings", findings},
          {"not_run", result.not_run},
          {"ranks", ranks}};
}

}  // namespace dai::intro
