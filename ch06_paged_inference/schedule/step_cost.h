// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a step costs on this machine, from a few measured ones: so much for its
// tokens, with straight lines between the numbers of tokens that were measured,
// and so much for each token of context that a row looks back at. A schedule
// can then be tried in virtual time, thousands of steps in a second.
//
//   const StepCost cost = measure_step_cost(runner, 5);
//   double ms = cost.of(plan);
//   cost.worst_error();   // of steps that it was not made of

#include <cstdint>
#include <vector>

#include "ch06_paged_inference/engine/model_runner.h"

namespace dai::paged {

struct MeasuredStep {
  double tokens = 0, context = 0, ms = 0;  // context: summed over the rows
};

struct StepCost {
  std::vector<MeasuredStep> knots;  // by tokens, rising; at least two
  double context_ms = 0;            // for each token looked back at
  std::vector<MeasuredStep> held_out = {};

  // Beyond the knots: along the last line.
  double of(double tokens, double context) const;
  double of(const StepPlan& plan) const;
  // The largest |forecast - measured| / measured of the held-out steps.
  double worst_error() const;
};

// So many rows of so many tokens each, from that position on.
struct StepShape {
  std::int64_t rows = 1, count = 1, position = 0;
};
// The median of `repeats` runs. Rows may share blocks where there are too few:
// the times are those of as many.
double measured_step_ms(ModelRunner& runner, const StepShape& shape,
                        int repeats);

// Decode steps of several batches and pieces of prompts; one with a long past,
// for what context costs; two more are held out. Of each the median of
// `repeats`.
StepCost measure_step_cost(ModelRunner& runner, int repeats);

// As measured on one machine and kept (recorded_cost.json): a check of a
// schedule then judges the schedule and not the machine.
StepCost recorded_step_cost();

}  // namespace dai::paged
