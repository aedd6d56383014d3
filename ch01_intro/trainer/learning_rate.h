// SPDX-License-Identifier: Apache-2.0
#pragma once

// Linear warm-up, then half a cosine down to a floor: the schedule that most
// decoders are trained with (Loshchilov, Hutter: SGDR, 2017).
//
//   step 0 .. warmup-1     peak * (step + 1) / warmup
//   step warmup .. total   floor + (peak - floor) * (1 + cos(pi * t)) / 2,
//                          t = (step - warmup) / (total - warmup)
//   later                  floor
//
// The first step has a rate above zero and step `warmup` is the first with the
// whole peak. A pure function, so a resumed run needs no state of it.
//
//   WarmupCosine schedule{.peak = 3e-4, .warmup_steps = 100,
//                         .total_steps = 1000};
//   optimizer.step(learning_rate(schedule, step));

#include <cstdint>

namespace dai::intro {

struct WarmupCosine {
  double peak = 3e-4;
  std::int64_t warmup_steps = 0;
  std::int64_t total_steps = 1;
  double floor_fraction = 0.1;  // of the peak

  // Throws UsageError: a peak that is not positive and finite, a negative
  // count, a warm-up longer than the training, a fraction outside [0, 1].
  void check() const;
};

// step >= 0.
double learning_rate(const WarmupCosine& schedule, std::int64_t step);

}  // namespace dai::intro
