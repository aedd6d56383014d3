// SPDX-License-Identifier: Apache-2.0
#pragma once

// One trace under every schedule of a grid: what the budget of a step, the
// number of sequences and the policy decide, and which of them nobody beats.
//
//   std::vector<SweepPoint> points = sweep_schedules(
//       trace, {.budgets = {32, 1024}, .sequences = {64}}, cost);
//   for (const SweepPoint& p : points) if (p.frontier) ...

#include <cstdint>
#include <string>
#include <vector>

#include "ch06_paged_inference/schedule/virtual_run.h"

namespace dai::paged {

struct SweepGrid {
  std::vector<std::int64_t> budgets{32, 64, 128, 256, 1024};  // tokens a step
  std::vector<std::int64_t> sequences{4, 16, 64};
  std::vector<std::string> policies{"fcfs", "priority"};
};

struct SweepPoint {
  std::int64_t budget = 0, sequences = 0;
  std::string policy;
  ServedTrace run;
  // No other point is better in TTFT p99 and as good in TPOT p99, or the other
  // way round.
  bool frontier = false;
};

std::vector<SweepPoint> sweep_schedules(const std::vector<TimedRequest>& trace,
                                        const SweepGrid& grid,
                                        const StepCost& cost);

}  // namespace dai::paged
