// SPDX-License-Identifier: Apache-2.0
#pragma once

// The single verdicts behind judge(): one function a stage. Each appends what
// it finds, for one rank at a time; judge() then merges the ranks of a host.
//
//   std::vector<Finding> found;
//   judge_clock(ranks, limits, found);
//
// They look only at ranks that reported what they need, and never throw.

#include "ch01_intro/selfcheck/judge.h"

namespace dai::intro {

using Ranks = std::vector<RankReport>;
using Findings = std::vector<Finding>;

void judge_resolve(const Ranks&, Findings&);
void judge_arrival(const Ranks&, Findings&);
void judge_ping(const Ranks&, Findings&);
void judge_clock(const Ranks&, const SelfcheckLimits&, Findings&);
void judge_versions(const Ranks&, Findings&);
void judge_device(const Ranks&, const SelfcheckLimits&, Findings&);
void judge_links(const Ranks&, Findings&);
void judge_numa(const Ranks&, Findings&);
void judge_collectives(const Ranks&, Findings&);
void judge_determinism(const Ranks&, Findings&);

// The value that most ranks have (of equally many, the lowest rank's); empty
// strings are unknown and not counted.
struct Majority {
  std::string value;
  int count = 0;
  int known = 0;
};
Majority majority_of(const std::vector<std::string>& by_rank);

}  // namespace dai::intro
