// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/selfcheck/judge.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "ch01_intro/selfcheck/verdicts.h"
#include "common/report.h"

namespace dai::intro {
namespace {

int column_of(const std::string& check) {
  const auto at = std::find(kSelfchecks.begin(), kSelfchecks.end(), check);
  return static_cast<int>(at - kSelfchecks.begin());
}

bool same_words(const Finding& a, const Finding& b) {
  return a.check == b.check && a.host == b.host && a.warning == b.warning &&
         a.measured == b.measured && a.expected == b.expected &&
         a.advice == b.advice;
}

bool ran(const RankReport& rank, const std::string& check) {
  if (check == "collectives" || check == "determinism") return rank.grouped;
  if (check == "arrive") return true;
  return check == "resolve" || check == "bind" ? rank.arrived : rank.reported;
}

}  // namespace

std::string Finding::line() const {
  return fmt::format("{} {}: host {}, {} {}: {}; expected: {}; do: {}",
                     warning ? "warning" : "FAILED", check, host,
                     ranks.size() == 1 ? "rank" : "ranks",
                     fmt::join(ranks, ", "), measured, expected, advice);
}

std::string host_of(const std::vector<RankReport>& ranks, int rank) {
  if (ranks[rank].arrived) return ranks[rank].facts.machine.host;
  // Ranks of a node are numbered one after the other by every launcher's
  // default, and each says how many they are and which of them it is.
  for (int other = 0; other < static_cast<int>(ranks.size()); ++other) {
    if (!ranks[other].arrived) continue;
    const RankFacts& facts = ranks[other].facts;
    const int first = other - facts.local_rank;
    if (rank >= first && rank < first + facts.local_world_size) {
      return facts.machine.host;
    }
  }
  const int on_a_node =
      ranks[0].arrived ? std::max(1, ranks[0].facts.local_world_size) : 1;
  return fmt::format("unknown (node {})", rank / on_a_node);
}

std::vector<Finding> judge(const std::vector<RankReport>& ranks,
                           const SelfcheckLimits& limits) {
  Findings found;
  for (const RankReport& rank : ranks) {
    if (!rank.reported) continue;
    found.insert(found.end(), rank.facts.own.begin(), rank.facts.own.end());
  }
  judge_resolve(ranks, found);
  judge_arrival(ranks, found);
  judge_ping(ranks, found);
  judge_clock(ranks, limits, found);
  judge_versions(ranks, found);
  judge_device(ranks, limits, found);
  judge_links(ranks, found);
  judge_numa(ranks, found);
  judge_collectives(ranks, found);
  judge_determinism(ranks, found);

  Findings merged;
  for (Finding& finding : found) {
    if (limits.strict) finding.warning = false;
    const auto same = std::find_if(
        merged.begin(), merged.end(),
        [&](const Finding& other) { return same_words(finding, other); });
    if (same == merged.end()) {
      merged.push_back(finding);
    } else {
      same->ranks.insert(same->ranks.end(), finding.ranks.begin(),
                         finding.ranks.end());
    }
  }
  std::stable_sort(merged.begin(), merged.end(),
                   [](const Finding& a, const Finding& b) {
                     return std::pair(a.warning, column_of(a.check)) <
                            std::pair(b.warning, column_of(b.check));
                   });
  return merged;
}

std::string selfcheck_cell(const std::vector<RankReport>& ranks,
                           const std::vector<Finding>& findings, int rank,
                           const std::string& check) {
  std::string cell = ran(ranks[rank], check) ? "ok" : "-";
  for (const Finding& finding : findings) {
    if (finding.check != check ||
        std::find(finding.ranks.begin(), finding.ranks.end(), rank) ==
            finding.ranks.end()) {
      continue;
    }
    if (!finding.warning) return "FAILED";
    cell = "warning";
  }
  return cell;
}

std::string selfcheck_matrix(const std::vector<RankReport>& ranks,
                             const std::vector<Finding>& findings) {
  std::vector<std::string> header{"rank", "host"};
  header.insert(header.end(), kSelfchecks.begin(), kSelfchecks.end());
  Table table(header);
  for (int rank = 0; rank < static_cast<int>(ranks.size()); ++rank) {
    std::vector<std::string> row{std::to_string(rank), host_of(ranks, rank)};
    for (const std::string& check : kSelfchecks) {
      row.push_back(selfcheck_cell(ranks, findings, rank, check));
    }
    table.add_row(row);
  }
  return table.to_string();
}

}  // namespace dai::intro
