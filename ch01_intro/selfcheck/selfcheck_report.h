// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a preflight found, for people, for --json and for the exit code.
//
//   fmt::print("{}", selfcheck_text(result));
//   app.attach("selfcheck", selfcheck_json(result));
//
// Rank 0 holds everybody's reports. A rank that could not meet the others is
// alone: it holds its own report and says so itself.

#include <string>
#include <utility>
#include <vector>

#include "ch01_intro/selfcheck/judge.h"

namespace dai::intro {

struct SelfcheckResult {
  int rank = 0;
  bool alone = false;             // could not meet rank 0 (or be rank 0)
  std::vector<RankReport> ranks;  // rank r at index r
  std::vector<Finding> findings;  // of the others than rank 0: their own
  std::string not_run;            // why the group was not formed; or empty

  // Ranks with a failure in `check`.
  int failed(const std::string& check) const;
  // Cells of the matrix that say "-".
  int cells_not_run() const;
};

// Machines, round trips, the matrix, then a line a finding.
std::string selfcheck_text(const SelfcheckResult& result);
// For a rank that is alone: its stages in one line, then its findings.
std::string selfcheck_own_text(const SelfcheckResult& result);
// "matrix", "findings", "ranks".
nlohmann::ordered_json selfcheck_json(const SelfcheckResult& result);
// Figures for --json, names ending in their unit; only those measured.
std::vector<std::pair<std::string, double>> selfcheck_metrics(
    const SelfcheckResult& result);

}  // namespace dai::intro
