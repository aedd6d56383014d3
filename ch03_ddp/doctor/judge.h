// SPDX-License-Identifier: Apache-2.0
#pragma once

// From what the ranks report to what is wrong. Pure functions: no clock, no
// store, no torch.
//
//   if (auto verdict = judge(reports)) fmt::print("{}\n",
//   verdict->to_string());
//
//   skipped call: rank 2 has left out all_reduce #18 (float32[4096], sum, at
//   buckets.cpp:40), step 5
//     rank 2       all_gather #18 (float32[8], at buckets.cpp:52), step 5
//     ranks 0, 1, 3  all_reduce #18 (float32[4096], sum, at buckets.cpp:40),
//     ... last finished by all: broadcast #17 ...
//
// How the kinds are told apart. Ranks that differ from the largest set of equal
// ones (from the set with the lowest rank where there are two) are the odd
// ones. `usual` is the order of calls in the last whole step of the others.
//   - same op at the same place: the first field that differs is the verdict;
//   - in another step: ahead of the others it has left calls out, behind them
//     it makes one too many;
//   - the odd call is where the others will be: left out, or swapped where its
//     next call is the others' or both come from one line (a loop in another
//     order);
//   - the odd call is where the others have been: one too many;
//   - the odd call is nowhere in the others' step: a branch that only this rank
//     takes.

#include <optional>
#include <string>
#include <vector>

#include "ch03_ddp/doctor/rank_report.h"

namespace dai::ddp {

enum class VerdictKind {
  kSkippedCall,
  kExtraCall,
  kSwappedOrder,
  kShape,
  kDtype,
  kReduceOp,
  kRoot,
  kBranch,
  kInputsExhausted,
  kProcessDead,
  kProcessStopped,
  kProcessSilent,
  kRankFailed,       // left with an exception
  kUnusedParameter,  // left because a parameter got no gradient
  kRankAbsent,       // alive, and in no collective
  kTransport,        // all are there, and nothing moves
  kSlowRank,
  kDrift,
  kInitialisation,
  kOverlappingData,
  kNan,
};
// "skipped call", ...
const char* to_string(VerdictKind kind);

struct Verdict {
  VerdictKind kind = VerdictKind::kTransport;
  std::vector<int> ranks;  // the odd ones
  std::string sentence;    // names them and the call
  std::vector<std::string> details;
  std::string to_string() const;
};

// Needs every rank's report, in the order of ranks. nullopt: nothing is wrong,
// or not enough is known yet.
std::optional<Verdict> judge(const std::vector<RankReport>& ranks);

// A rank that the others wait for, step after step: without it a step would be
// shorter by `least_share` of its time or more, and by 20 ms. Needs 10 timed
// steps.
std::optional<Verdict> judge_speed(const std::vector<RankReport>& ranks,
                                   double least_share = 0.2);

// "rank 2" or "ranks 0, 1, 3"
std::string name_ranks(const std::vector<int>& ranks);

}  // namespace dai::ddp
