// SPDX-License-Identifier: Apache-2.0
#pragma once

// Puts a clock around any sync of the ladder: when backward computed, when the
// wire was busy, and how much of that backward did not hide.
//
//   TimedSync sync(parameters, group, [&] { return make_sync(...); });
//   trainer.step();
//   sync.timeline().exposed_ms();
//
// "Compute ends" when the last gradient of the last microbatch is there; what
// comes after it, until finish_step() returns, is exposed: the optimizer waits
// for it. Costs two looks at the clock a gradient and a collective.

#include <functional>
#include <memory>
#include <vector>

#include "ch01_intro/sync/gradient_sync.h"
#include "ch03_ddp/buckets/ready_hooks.h"

namespace dai {
class ProcessGroup;
}

namespace dai::ddp {

struct WireSpan {
  double begin_us = 0, end_us = 0;  // from issue to completion
  std::int64_t bytes = 0;
};

// Of one step, on the steady clock of this rank.
struct StepTimeline {
  double backward_begin_us = 0;  // of the last microbatch
  double compute_end_us = 0;
  double sync_end_us = 0;
  std::vector<double> ready_us;  // [parameter]: its gradient was there
  std::vector<WireSpan> wire;    // by begin

  double backward_ms() const;  // computing, of the last microbatch
  double exposed_ms() const;   // compute's end to sync's
  double wire_ms() const;      // time in which something was on the wire
  // The part of wire_ms() before compute ended; 0 without any.
  double hidden() const;
  std::int64_t wire_bytes() const;
};

class TimedSync : public intro::GradientSync {
 public:
  using Make = std::function<std::unique_ptr<intro::GradientSync>()>;

  // Its hooks have to be in front of the sync's own, so it makes the sync.
  TimedSync(const std::vector<intro::NamedParameter>& parameters,
            ProcessGroup& group, const Make& make);
  ~TimedSync() override;

  void begin_step() override;
  void before_forward(const intro::Microbatch& microbatch) override;
  void before_backward(const intro::Microbatch& microbatch,
                       const at::Tensor& loss) override;
  void after_backward(const intro::Microbatch& microbatch) override;
  intro::SyncTimes finish_step() override;

  // Of the last step.
  const StepTimeline& timeline() const { return timeline_; }
  intro::GradientSync& inner() { return *inner_; }

 private:
  class Observer;

  ProcessGroup& group_;
  StepTimeline timeline_;
  std::shared_ptr<Observer> observer_;
  ReadyHooks hooks_;
  const std::unique_ptr<intro::GradientSync> inner_;
};

}  // namespace dai::ddp
