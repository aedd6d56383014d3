// SPDX-License-Identifier: Apache-2.0
#pragma once

// Steps of inference under a roofline: timed on a real runner, beside what
// their operations and bytes allow.
//
//   PlacedStep step = place_step("decode", {.rows = 4, .position = 255},
//                                model, roofline, /*repeats=*/3);
//   step.placement.bound;   // memory or compute
//
// And what the cache does to a decode step when sequences grow: counted, not
// timed.

#include <cstdint>
#include <string>
#include <vector>

#include "ch06_paged_inference/bottleneck/step_work.h"
#include "ch06_paged_inference/generate/loaded_model.h"

namespace dai::paged {

// Bytes of a weight and of a key's or value's number: the runner's float32.
inline constexpr double kValueBytes = 4;

struct PlacedStep {
  std::string name;
  intro::Work work;
  intro::Placement placement;
  double tokens = 0, ms = 0;  // ms: the median of the repeats
};

PlacedStep place_step(const std::string& name, const StepShape& shape,
                      LoadedModel& model, const intro::Roofline& roofline,
                      int repeats);

struct KvGrowth {
  std::int64_t context = 0;
  double sequence_bytes = 0;            // keys and values of a sequence
  double share_alone = 0;               // of a decode step's bytes
  double share_of_32 = 0;               // likewise, 32 sequences at a time
  std::int64_t compute_bound_from = 0;  // sequences at a time; 0: never
};
std::vector<KvGrowth> kv_growth(const intro::DecoderConfig& config,
                                const std::vector<std::int64_t>& contexts,
                                double ridge);

}  // namespace dai::paged
