// SPDX-License-Identifier: Apache-2.0
#pragma once

// Kineto, PyTorch's profiler, from C++: it records while it lives.
//
//   KinetoRecording recording(device);
//   for (int i = 0; i < 3; ++i) recording.step([&] { train_one_step(); });
//   std::vector<ProfiledEvent> events = recording.stop();
//   OperatorProfile profile = sort_events(events);     // operator_profile.h
//   std::string trace = recording.chrome_trace();      // for ui.perfetto.dev
//
// On the CPU each operator costs about a microsecond more while recorded. On
// CUDA kernels are recorded as well (through CUPTI) and their time belongs to
// the operator that launched them.
//
// Errors: std::logic_error for a second profiler beside this one, for step()
// after stop(), for chrome_trace() before. What a step throws passes through.

#include <c10/core/Device.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ch01_intro/profile/operator_profile.h"

namespace dai::intro {

class KinetoRecording {
 public:
  // flops: fill ProfiledEvent::flops by Kineto's own formulas, which costs the
  // shapes of each call.
  explicit KinetoRecording(at::Device device, bool flops = false);
  ~KinetoRecording();
  KinetoRecording(const KinetoRecording&) = delete;
  KinetoRecording& operator=(const KinetoRecording&) = delete;

  // Runs `work` under the scope kStepScope, on CUDA until the device is done.
  void step(const std::function<void()>& work);
  std::vector<ProfiledEvent> stop();
  std::string chrome_trace() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dai::intro
