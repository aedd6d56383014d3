// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a larger batch is worth: the time of a decode step, measured on a real
// runner at several batch sizes, and from it the rate of a run whose batches
// are known.
//
//   const DecodeTimes times = measure_decode(runner, {1, 8, 32}, 330, 3);
//   double rate = times.tokens_per_s(use.batches);

#include <cstdint>
#include <map>
#include <vector>

#include "ch06_paged_inference/engine/model_runner.h"

namespace dai::paged {

struct DecodeTimes {
  std::map<std::int64_t, double> step_ms;  // by batch

  // Between measured sizes, and beyond them, in a straight line.
  double step_ms_of(std::int64_t batch) const;
  double tokens_per_s(const std::vector<std::int64_t>& batches) const;
};

// The median of `repeats` steps of so many sequences of `context` tokens each,
// none of which share a block. Throws UsageError where the runner has too few.
DecodeTimes measure_decode(ModelRunner& runner,
                           const std::vector<std::int64_t>& batches,
                           std::int64_t context, int repeats);

}  // namespace dai::paged
