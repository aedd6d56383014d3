// SPDX-License-Identifier: Apache-2.0
#pragma once

// Ranks whose calls of one number do not fit: who is wrong, and what has it
// done?
//
// The odd ranks are those that are not in the largest set of equal ones. Of
// sets of one size, the one is right that does what it did in the step before;
// where that does not tell either, the verdict says so. Then, by the order of
// calls in that step:
//   - the same operation at the same place: the field that differs is the kind;
//   - in another step: ahead of the others it has left calls out, behind them
//     it makes one too many;
//   - where the others will be: left out, or swapped where its next call is the
//     others' or both come from one line (a loop in another order);
//   - where the others have been: one too many;
//   - nowhere in the others' step: a branch that only this rank takes;
//   - no step before is known: a different call, and no more is said.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ch03_ddp/doctor/rank_report.h"
#include "ch03_ddp/doctor/verdict.h"

namespace dai::ddp {

// judge.h has what the arguments are. nullopt too where no call was refused.
std::optional<Verdict> judge_mismatch(const std::vector<RankReport>& ranks);

// "last finished by all: broadcast #17 (...), step 5"
std::string last_common(const std::vector<RankReport>& ranks);

}  // namespace dai::ddp
