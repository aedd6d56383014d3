// SPDX-License-Identifier: Apache-2.0
#pragma once

// Everything a profiler can say about one training step, of a decoder or of
// any other function: the operators, the modules, what is no matrix product,
// how many operations it took and how many Kineto believes it took.
//
//   StepReport report = profile_step([&] { train_one_step(); }, device,
//                                    {.warm_up = 2, .steps = 5});
//   fmt::print("{}", report.operators_table(15));
//
// A number of steps runs bare, then as many under the profiler: the difference
// is what profiling costs. One more is counted by FlopCounter and one by
// Kineto's formulas. The step must do the same work each time.

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "ch01_intro/profile/flop_counter.h"
#include "ch01_intro/profile/operator_profile.h"

namespace dai::intro {

struct ProfileStepOptions {
  std::int64_t warm_up = 2;
  std::int64_t steps = 3;
  bool trace = false;
};

struct StepReport {
  OperatorProfile profile;     // of all steps recorded
  double bare_ms = 0;          // median of a step without profiler
  double outer_clock_ms = 0;   // of all steps recorded, by our own clock
  std::int64_t flops = 0;      // of one step, by FlopCounter
  std::int64_t attention = 0;  // of those in fused attention
  std::int64_t kineto_flops = 0;
  std::map<std::string, OperatorFlops> flops_by_operator;
  std::vector<std::string> unknown;  // multiply matrices, and have no rule
  std::string trace;                 // Chrome's format, when asked for

  std::int64_t flops_of(const std::string& name) const;  // of an operator, or 0
  double recorded_ms() const;                            // of a step, mean
  // How far the recorded steps outlast our clock around them, as a share: 0.
  double outlasts_clock() const;

  // Milliseconds of a step.
  std::string operators_table(std::size_t rows) const;
  std::string groups_table() const;
  std::string modules_table() const;

  // Names end in their unit.
  std::vector<std::pair<std::string, double>> metrics() const;
  nlohmann::ordered_json to_json() const;  // every operator and module
};

// Throws std::invalid_argument for steps or warm_up below 1 and 0.
StepReport profile_step(const std::function<void()>& step, at::Device device,
                        const ProfileStepOptions& options);

}  // namespace dai::intro
