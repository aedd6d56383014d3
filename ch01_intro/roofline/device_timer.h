// SPDX-License-Identifier: Apache-2.0
#pragma once

// How long does a device work on something? On the CPU by the steady clock, on
// CUDA by events in the device's own queue, since the host only queues work.
//
//   std::vector<double> s = repeat_timed(device, [&] { at::mm_out(c, a, b); },
//                                        /*seconds=*/0.1);
//   s.front();   // of each repetition, in their order, warm-up left out
//
// No autograd is recorded while it runs. Between repetitions on CUDA, a buffer
// larger than the second-level cache is overwritten, so that each starts from
// memory; on the CPU caches stay as the last repetition left them.

#include <c10/core/Device.h>

#include <functional>
#include <vector>

namespace dai::intro {

// At least `at_least` repetitions, then more until `seconds` are over or there
// are `at_most`. One more comes first and is not counted.
std::vector<double> repeat_timed(at::Device device,
                                 const std::function<void()>& work,
                                 double seconds, int at_least = 3,
                                 int at_most = 10'000);

}  // namespace dai::intro
