// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/profile/kineto_recording.h"

#include <ATen/record_function.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <stdexcept>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "common/file.h"

namespace dai::intro {
namespace {

namespace kineto = torch::autograd::profiler;
using torch::profiler::impl::ActivityType;

ProfiledEvent::Kind kind_of(const kineto::KinetoEvent& event) {
  switch (static_cast<at::RecordScope>(event.scope())) {
    case at::RecordScope::USER_SCOPE:
      return ProfiledEvent::Kind::kScope;
    case at::RecordScope::BACKWARD_FUNCTION:
      return ProfiledEvent::Kind::kBackwardNode;
    default:
      return ProfiledEvent::Kind::kOperator;
  }
}

// Operators and scopes become events; a kernel only adds its time to the
// operator that it is linked to.
std::vector<ProfiledEvent> converted(
    const std::vector<kineto::KinetoEvent>& recorded) {
  std::unordered_map<std::uint64_t, std::int64_t> device_ns;
  for (const kineto::KinetoEvent& event : recorded) {
    if (event.deviceType() != c10::DeviceType::CPU) {
      device_ns[event.linkedCorrelationId()] +=
          static_cast<std::int64_t>(event.durationNs());
    }
  }
  std::vector<ProfiledEvent> events;
  for (const kineto::KinetoEvent& event : recorded) {
    // Linked ones on the CPU are calls of the CUDA runtime.
    if (event.deviceType() != c10::DeviceType::CPU ||
        event.linkedCorrelationId() != 0 || event.isAsync() ||
        event.endNs() < event.startNs()) {
      continue;
    }
    const auto kernels = device_ns.find(event.correlationId());
    events.push_back(
        {.name = event.name(),
         .kind = kind_of(event),
         .thread = event.startThreadId(),
         .begin_ns = static_cast<std::int64_t>(event.startNs()),
         .end_ns = static_cast<std::int64_t>(event.endNs()),
         .sequence = event.sequenceNr(),
         .forward_thread = event.fwdThreadId(),
         .device_ns = kernels == device_ns.end() ? 0 : kernels->second,
         .flops = static_cast<std::int64_t>(event.flops())});
  }
  return events;
}

}  // namespace

struct KinetoRecording::Impl {
  at::Device device;
  bool running = true;
  std::unique_ptr<kineto::ProfilerResult> result = nullptr;
};

KinetoRecording::KinetoRecording(at::Device device, bool flops)
    : impl_(std::make_unique<Impl>(Impl{device})) {
  if (torch::profiler::impl::profilerEnabled()) {
    throw std::logic_error("KinetoRecording: a profiler is running already");
  }
  std::set<ActivityType> activities{ActivityType::CPU};
  if (device.is_cuda()) activities.insert(ActivityType::CUDA);
  // Without a GPU, Kineto's search for one ends in an ERROR on stderr that is
  // none. The level is read when the first profiler of the process is made.
  if (!device.is_cuda()) ::setenv("KINETO_LOG_LEVEL", "5", /*overwrite=*/0);
  const torch::profiler::impl::ProfilerConfig config(
      torch::profiler::impl::ProfilerState::KINETO,
      /*report_input_shapes=*/flops, /*profile_memory=*/false,
      /*with_stack=*/false, /*with_flops=*/flops);
  kineto::prepareProfiler(config, activities);
  kineto::enableProfiler(
      config, activities,
      {at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION,
       at::RecordScope::USER_SCOPE});
}

KinetoRecording::~KinetoRecording() {
  if (!impl_->running) return;
  try {
    kineto::disableProfiler();
  } catch (const std::exception&) {
    // We are here because something else has failed, which the caller knows.
  }
}

void KinetoRecording::step(const std::function<void()>& work) {
  if (!impl_->running) {
    throw std::logic_error("KinetoRecording: a step after stop()");
  }
  RECORD_USER_SCOPE(kStepScope);
  work();
  if (impl_->device.is_cuda()) {
    c10::impl::VirtualGuardImpl(impl_->device.type())
        .synchronizeDevice(impl_->device.index());
  }
}

std::vector<ProfiledEvent> KinetoRecording::stop() {
  if (!impl_->running) throw std::logic_error("KinetoRecording: stopped twice");
  impl_->running = false;
  impl_->result = kineto::disableProfiler();
  return converted(impl_->result->events());
}

std::string KinetoRecording::chrome_trace() const {
  if (impl_->result == nullptr) {
    throw std::logic_error("KinetoRecording: the trace comes after stop()");
  }
  // Kineto writes its text to a path and to nothing else.
  std::string path = std::filesystem::temp_directory_path() / "kineto.XXXXXX";
  const int file = ::mkstemp(path.data());
  if (file < 0) {
    throw std::system_error(errno, std::generic_category(), path);
  }
  ::close(file);
  impl_->result->save(path);
  std::string text = read_file(path);
  std::filesystem::remove(path);
  return text;
}

}  // namespace dai::intro
