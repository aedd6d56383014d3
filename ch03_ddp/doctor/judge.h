// SPDX-License-Identifier: Apache-2.0
#pragma once

// From what the ranks report to what is wrong. Pure functions: no clock, no
// store, no torch.
//
//   if (const auto verdict = judge(reports)) print(verdict->to_string());
//
//   skipped call: rank 2 has left out all_reduce #18 (float32[4096], sum, at
//   buckets.cpp:40), step 5
//     ranks 0, 1, 3: all_reduce #18 (...), step 5
//     rank 2: all_gather #18 (float32[8], at buckets.cpp:52), step 5
//     last finished by all: broadcast #17 ...

#include <optional>
#include <vector>

#include "ch03_ddp/doctor/rank_report.h"
#include "ch03_ddp/doctor/verdict.h"

namespace dai::ddp {

// Needs every rank's report, in the order of ranks. nullopt: nothing is wrong,
// or not enough is known yet.
std::optional<Verdict> judge(const std::vector<RankReport>& ranks);

// A rank that the others wait for, step after step: without it a step would be
// shorter by `least_share` of its time or more, and by 20 ms. Needs 10 timed
// steps.
std::optional<Verdict> judge_speed(const std::vector<RankReport>& ranks,
                                   double least_share = 0.2);

}  // namespace dai::ddp
