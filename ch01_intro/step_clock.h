// SPDX-License-Identifier: Apache-2.0
#pragma once

// A stopwatch whose laps add up: each lap starts where the last one ended, so
// the parts of a step sum to the step. On CUDA a lap first waits for the
// device; otherwise it would measure how fast work is queued, not done.
//
//   StepClock clock(device);
//   at::Tensor loss = model.loss(images, labels);
//   times.forward_ms += clock.lap_ms();

#include <c10/core/Device.h>

#include <chrono>

namespace dai::intro {

class StepClock {
 public:
  explicit StepClock(at::Device device);

  double lap_ms();
  // Since construction, up to the end of the last lap.
  double total_ms() const;

 private:
  using Time = std::chrono::steady_clock::time_point;
  at::Device device_;
  Time start_;
  Time last_;
};

}  // namespace dai::intro
