// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the apps that try schedules in virtual time have in common: a trace of
// arrivals, and what steps cost, here or on the machine of the record.
//
//   TimedTraceOptions options{.prompt = 64};
//   options.declare(set);
//   const StepCost cost = options.step_cost(app);
//   const std::vector<TimedRequest> trace = options.trace(app.seed());

#include <cstdint>
#include <string>
#include <vector>

#include "ch06_paged_inference/generate/loaded_model.h"
#include "ch06_paged_inference/schedule/step_cost.h"
#include "ch06_paged_inference/schedule/virtual_run.h"
#include "common/app.h"

namespace dai::paged {

struct TimedTraceOptions {
  LoadedModelOptions model = {};
  std::int64_t requests = 120, prompt = 64, output = 48, repeats = 3;
  double per_second = 0.8;
  std::string cost = "measured";  // or "recorded", as smoke runs have it
  std::string trace_file = {};    // instead of one that is made up

  void declare(OptionSet& set);
  // Prints what it found.
  StepCost step_cost(App& app) const;
  // Throws UsageError for a file that is none.
  std::vector<TimedRequest> trace(std::uint64_t seed) const;
  // In virtual time, with --step-tokens.
  VirtualServer server(const StepCost& cost) const;
  // By the model itself, in real time (real_run.h).
  ServedTrace serve_really(App& app, const std::vector<TimedRequest>& trace,
                           std::int64_t batch,
                           std::vector<double>* step_ms = nullptr) const;
};

}  // namespace dai::paged
