// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/ladder/timed_sync.h"

#include <algorithm>
#include <limits>
#include <map>
#include <mutex>
#include <utility>

#include "common/timer.h"
#include "common/torch/process_group.h"

namespace dai::ddp {
namespace {

// Time in which at least one of the spans lasted, up to `limit`. By begin.
double covered_us(const std::vector<WireSpan>& spans, double limit) {
  double covered = 0, until = -std::numeric_limits<double>::infinity();
  for (const WireSpan& span : spans) {
    const double begin = std::max(span.begin_us, until);
    const double end = std::min(span.end_us, limit);
    if (end > begin) covered += end - begin;
    until = std::max(until, span.end_us);
  }
  return covered;
}

}  // namespace

double StepTimeline::backward_ms() const {
  return (compute_end_us - backward_begin_us) / 1e3;
}
double StepTimeline::exposed_ms() const {
  return (sync_end_us - compute_end_us) / 1e3;
}
double StepTimeline::wire_ms() const {
  return covered_us(wire, std::numeric_limits<double>::infinity()) / 1e3;
}
double StepTimeline::hidden() const {
  const double all = wire_ms();
  return all > 0 ? covered_us(wire, compute_end_us) / 1e3 / all : 0;
}
std::int64_t StepTimeline::wire_bytes() const {
  std::int64_t bytes = 0;
  for (const WireSpan& span : wire) bytes += span.bytes;
  return bytes;
}

// Begins and ends come from several threads.
class TimedSync::Observer : public CollectiveObserver {
 public:
  void on_begin(const CollectiveEvent& event) override {
    const std::lock_guard lock(mutex_);
    if (!watching_ || event.is_message()) return;
    under_way_[event.sequence] = {steady_us(), 0, event.bytes};
  }
  void on_end(const CollectiveEvent& event, std::exception_ptr) override {
    const std::lock_guard lock(mutex_);
    const auto found = under_way_.find(event.sequence);
    if (event.is_message() || found == under_way_.end()) return;
    found->second.end_us = steady_us();
    done_.push_back(found->second);
    under_way_.erase(found);
  }
  void watch() {
    const std::lock_guard lock(mutex_);
    watching_ = true;
    done_.clear();
  }
  std::vector<WireSpan> take() {
    const std::lock_guard lock(mutex_);
    watching_ = false;
    std::sort(done_.begin(), done_.end(), [](const auto& a, const auto& b) {
      return a.begin_us < b.begin_us;
    });
    return std::exchange(done_, {});
  }

 private:
  std::mutex mutex_;
  bool watching_ = false;
  std::map<std::uint64_t, WireSpan> under_way_;
  std::vector<WireSpan> done_;
};

TimedSync::TimedSync(const std::vector<intro::NamedParameter>& parameters,
                     ProcessGroup& group, const Make& make)
    : group_(group),
      observer_(std::make_shared<Observer>()),
      hooks_(parameters,
             [this](std::size_t parameter) {
               timeline_.compute_end_us = steady_us();
               timeline_.ready_us[parameter] = timeline_.compute_end_us;
             }),
      inner_(make()) {
  timeline_.ready_us.resize(parameters.size());
  group_.add_observer(observer_);
}

TimedSync::~TimedSync() {
  group_.remove_observer(observer_);
}

void TimedSync::begin_step() {
  inner_->begin_step();
  observer_->watch();
}

void TimedSync::before_forward(const intro::Microbatch& microbatch) {
  inner_->before_forward(microbatch);
}

void TimedSync::before_backward(const intro::Microbatch& microbatch,
                                const at::Tensor& loss) {
  inner_->before_backward(microbatch, loss);
  timeline_.backward_begin_us = steady_us();
}

void TimedSync::after_backward(const intro::Microbatch& microbatch) {
  inner_->after_backward(microbatch);
}

intro::SyncTimes TimedSync::finish_step() {
  const intro::SyncTimes times = inner_->finish_step();
  timeline_.sync_end_us = steady_us();
  timeline_.wire = observer_->take();
  return times;
}

}  // namespace dai::ddp
