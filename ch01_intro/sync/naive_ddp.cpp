// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/sync/naive_ddp.h"

#include "ch01_intro/sync/step_clock.h"
#include "common/torch/process_group.h"

namespace dai::intro {

NaiveDdp::NaiveDdp(std::vector<NamedParameter> parameters,
                   std::int64_t microbatches, ProcessGroup* group)
    : parameters_(std::move(parameters)),
      microbatches_(microbatches),
      group_(group) {}

void NaiveDdp::begin_step() {
  // backward() adds into a gradient that exists: that is how the microbatches
  // of this rank are summed. So the first one must find none.
  for (auto& parameter : parameters_) parameter.tensor.mutable_grad().reset();
}

SyncTimes NaiveDdp::finish_step() {
  SyncTimes times;
  StepClock clock(parameters_.front().tensor.device());
  if (group_) {
    // Without this barrier the first all_reduce would carry the blame for
    // whoever computes slowest. It costs a latency of its own.
    group_->barrier();
    times.wait_ms = clock.lap_ms();
    for (const auto& parameter : parameters_) {
      const CallSubject subject(parameter.name);  // for messages
      group_->all_reduce(parameter.tensor.grad(), ReduceOp::kSum);
    }
    times.wire_ms = clock.lap_ms();
  }
  if (microbatches_ > 1) {
    for (const auto& parameter : parameters_) {
      parameter.tensor.grad().div_(microbatches_);
    }
  }
  times.add_ms = clock.lap_ms();
  return times;
}

}  // namespace dai::intro
