// SPDX-License-Identifier: Apache-2.0
#pragma once

// A stopwatch whose laps add up: each lap starts where the last one ended, so
// the parts of a step sum to the step. On CUDA a lap first waits for the
// device; otherwise it would measure how fast work is queued, not done.
//
//   StepTimes times{};
//   StepClock clock(device);
//   at::Tensor loss = decoder.loss(tokens, targets);
//   times[kForward] += clock.lap_ms();

#include <c10/core/Device.h>

#include <array>
#include <chrono>

namespace dai::intro {

// Where the time of a training step goes. The parts add up to the step.
enum StepPart {
  kData,  // picking tokens, bringing them to the device
  kForward,
  kBackward,
  kWait,  // for the slowest rank
  kWire,  // collectives, with the additions they do themselves
  kAdd,   // additions and copies of our own
  kOptimizer,
  kOther,  // the loop itself
  kStepParts
};
using StepTimes = std::array<double, kStepParts>;  // milliseconds
const char* to_string(StepPart part);
double total_ms(const StepTimes& times);

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
