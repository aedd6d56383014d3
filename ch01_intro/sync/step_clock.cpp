// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/sync/step_clock.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <numeric>

namespace dai::intro {
namespace {

std::chrono::steady_clock::time_point now_on(at::Device device) {
  if (device.is_cuda()) {
    c10::impl::VirtualGuardImpl(device.type())
        .synchronizeDevice(device.index());
  }
  return std::chrono::steady_clock::now();
}

double ms(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

}  // namespace

const char* to_string(StepPart part) {
  static constexpr const char* kNames[kStepParts] = {
      "data", "forward", "backward",  "wait",
      "wire", "add",     "optimizer", "other"};
  return kNames[part];
}

double total_ms(const StepTimes& times) {
  return std::accumulate(times.begin(), times.end(), 0.0);
}

StepClock::StepClock(at::Device device)
    : device_(device), start_(now_on(device)), last_(start_) {}

double StepClock::lap_ms() {
  const Time now = now_on(device_);
  const double lap = ms(now - last_);
  last_ = now;
  return lap;
}

double StepClock::total_ms() const {
  return ms(last_ - start_);
}

}  // namespace dai::intro
