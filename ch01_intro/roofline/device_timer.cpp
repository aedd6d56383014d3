// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/roofline/device_timer.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "common/timer.h"

namespace dai::intro {
namespace {

// Above the L2 of any GPU there is (B200: 126 MB).
constexpr std::int64_t kFlushBytes = std::int64_t{256} << 20;

double seconds_on_cpu(const std::function<void()>& work) {
  const double begin = steady_us();
  work();
  return (steady_us() - begin) / 1e6;
}

// c10::Event reaches CUDA through a table that libtorch_cuda fills when it is
// loaded: this file needs no CUDA to compile or to link.
double seconds_on_device(at::Device device, const std::function<void()>& work) {
  const c10::Stream stream =
      c10::impl::VirtualGuardImpl(device.type()).getStream(device);
  c10::Event begin(device.type(), c10::EventFlag::BACKEND_DEFAULT);
  c10::Event end(device.type(), c10::EventFlag::BACKEND_DEFAULT);
  begin.record(stream);
  work();
  end.record(stream);
  end.synchronize();
  return begin.elapsedTime(end) / 1e3;
}

}  // namespace

std::vector<double> repeat_timed(at::Device device,
                                 const std::function<void()>& work,
                                 double seconds, int at_least, int at_most) {
  const at::NoGradGuard no_grad;
  work();  // allocates, chooses kernels, fills caches
  at::Tensor flush;
  if (!device.is_cpu()) {
    flush =
        at::empty({kFlushBytes}, at::TensorOptions(device).dtype(at::kByte));
  }
  std::vector<double> times;
  double spent = 0;
  while (static_cast<int>(times.size()) < at_least ||
         (spent < seconds && static_cast<int>(times.size()) < at_most)) {
    if (flush.defined()) flush.zero_();
    times.push_back(device.is_cpu() ? seconds_on_cpu(work)
                                    : seconds_on_device(device, work));
    spent += times.back();
  }
  return times;
}

}  // namespace dai::intro
