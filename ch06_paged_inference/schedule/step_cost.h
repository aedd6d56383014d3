// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a step costs on this machine, as a straight line through a few measured
// ones: so many milliseconds for being a step, for each token, and for each
// token of context that a row looks back at. A schedule can then be tried in
// virtual time, thousands of steps in a second.
//
//   const StepCost cost = measure_step_cost(runner, 5);
//   double ms = cost.of(plan);

#include <cstdint>
#include <vector>

#include "ch06_paged_inference/engine/model_runner.h"

namespace dai::paged {

struct MeasuredStep {
  double tokens = 0, context = 0, ms = 0;  // context: summed over the rows
};

struct StepCost {
  double step_ms = 0, token_ms = 0, context_ms = 0;
  std::vector<MeasuredStep> from = {};

  double of(double tokens, double context) const {
    return step_ms + token_ms * tokens + context_ms * context;
  }
  double of(const StepPlan& plan) const;
  // The largest |line - measured| / measured.
  double worst_error() const;
};

// Least squares of the relative errors, no coefficient below 0. Throws
// std::invalid_argument for fewer than three steps.
StepCost fit_step_cost(const std::vector<MeasuredStep>& steps);

// So many rows of so many tokens each, from that position on.
struct StepShape {
  std::int64_t rows = 1, count = 1, position = 0;
};
// The median of `repeats` runs. Rows may share blocks where there are too few:
// the times are those of as many.
double measured_step_ms(ModelRunner& runner, const StepShape& shape,
                        int repeats);

// Decode steps of several batches and contexts, and pieces of prompts; of each
// the median of `repeats`.
StepCost measure_step_cost(ModelRunner& runner, int repeats);

// As measured on one machine and kept (recorded_cost.json): a check of a
// schedule then judges the schedule and not the machine.
StepCost recorded_step_cost();

}  // namespace dai::paged
