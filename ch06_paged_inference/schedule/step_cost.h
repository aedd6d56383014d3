// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a step costs on this machine, from a few measured ones: so much for its
// tokens, with straight lines between the numbers of tokens that were measured;
// so much for each token of context that a row gathers; and so much for each
// pair of a token and one that it looks at. A schedule can then be tried in
// virtual time, thousands of steps in a second.
//
//   const StepCost cost = measure_step_cost(runner, 5);
//   double ms = cost.of(plan);
//   cost.worst_error();   // of steps that it was not made of

#include <cstdint>
#include <vector>

#include "ch06_paged_inference/engine/model_runner.h"

namespace dai::paged {

// What of a step costs time, summed over its rows.
struct StepSize {
  double tokens = 0;
  double context = 0;  // tokens whose keys and values are read
  double pairs = 0;    // of a token and one that it looks at

  void add(double count, double position);  // a row
};
StepSize size_of(const StepPlan& plan);

struct MeasuredStep {
  StepSize size;
  double ms = 0;
};

struct StepCost {
  std::vector<MeasuredStep> knots;  // by tokens, rising; at least two
  double context_ms = 0, pair_ms = 0;
  std::vector<MeasuredStep> held_out = {};

  // Beyond the knots: along the last line.
  double of(const StepSize& size) const;
  double of(const StepPlan& plan) const { return of(size_of(plan)); }
  // How many pairs cost what another token of a prompt does
  // (SchedulerOptions::context_per_token); 0: pairs cost nothing.
  std::int64_t context_per_token() const;
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

// Decode steps of several batches and beginnings of prompts; one of each with a
// long past, for what that costs; three more are held out. Of each the median
// of `repeats`. Shorter ones where the model has fewer positions than 4096.
StepCost measure_step_cost(ModelRunner& runner, int repeats);

// As measured on one machine and kept (recorded_cost.json): a check of a
// schedule then judges the schedule and not the machine.
StepCost recorded_step_cost();

}  // namespace dai::paged
