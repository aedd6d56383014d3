// SPDX-License-Identifier: Apache-2.0
#pragma once

// Scaling efficiency, and where the rest went. With T1 the step of one rank
// and TN the step of N ranks on the same global batch (strong scaling),
//
//   efficiency = T1 / (N * TN)
//
// A single percentage teaches nothing, so each part of the step is set beside
// its own ideal, one rank's time / N. The differences ("lost") add up to
// TN - T1 / N exactly: work that did not shrink (the optimizer runs whole on
// every rank), work that one rank does not have (the wire), and compute that
// grew because the ranks share cores, caches and memory.
//
//   ScalingBreakdown b = break_down_scaling(alone.step_ms, all.step_ms, group);
//   fmt::print("{}{:.0f} %\n", b.to_table(), 100 * b.efficiency());

#include <nlohmann/json.hpp>
#include <string>

#include "ch01_intro/sync/step_clock.h"

namespace dai {
class ProcessGroup;
}

namespace dai::intro {

struct ScalingBreakdown {
  int ranks = 1;
  StepTimes one_rank{};
  StepTimes all_ranks{};  // mean over the ranks

  double efficiency() const;
  std::string to_table() const;
  nlohmann::ordered_json to_json() const;  // milliseconds by part
};

// one_rank counts on rank 0 only, mine is this rank's. Equal on every rank.
ScalingBreakdown break_down_scaling(const StepTimes& one_rank,
                                    const StepTimes& mine, ProcessGroup& group);

}  // namespace dai::intro
