// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/ladder/overlapped_ddp.h"

#include <ATen/ops/empty.h>

#include <stdexcept>
#include <utility>

#include "ch01_intro/sync/step_clock.h"
#include "ch03_ddp/buckets/unreached.h"
#include "common/torch/process_group.h"

namespace dai::ddp {

using intro::Microbatch;
using intro::SyncTimes;

OverlappedDdp::OverlappedDdp(std::vector<NamedParameter> parameters,
                             std::int64_t microbatches,
                             std::unique_ptr<BucketExchange> exchange,
                             const BucketCaps& caps, ProcessGroup* group)
    : sender_(parameters, microbatches, std::move(exchange),
              plan_buckets(parameters, expected_ready_order(parameters.size()),
                           caps)),
      caps_(caps),
      group_(group),
      hooks_(parameters, [this](std::size_t i) { on_ready(i); }) {}

void OverlappedDdp::begin_step() {
  sender_.begin_step();
  if (!rebuilt_ && ready_order_.size() == sender_.parameters().size()) {
    rebuild();
  }
}

void OverlappedDdp::before_backward(const Microbatch& microbatch,
                                    const at::Tensor& /*loss*/) {
  microbatch_ = microbatch;
  reached_.assign(sender_.parameters().size(), false);
  ready_order_.clear();
  next_bucket_ = 0;
  pending_.clear();
  for (std::size_t b = 0; b < sender_.buckets().size(); ++b) {
    pending_.push_back(sender_.buckets().parameters_of(b).size());
  }
}

void OverlappedDdp::on_ready(std::size_t parameter) {
  if (!microbatch_ || reached_[parameter]) {
    throw std::logic_error(
        sender_.parameters()[parameter].name +
        ": a gradient outside of its backward: did backward run twice?");
  }
  reached_[parameter] = true;
  sender_.keep(parameter, microbatch_->id);
  if (!microbatch_->last_on_rank) return;
  ready_order_.push_back(parameter);
  --pending_[sender_.buckets().bucket_of(parameter)];
  while (next_bucket_ < pending_.size() && pending_[next_bucket_] == 0) {
    sender_.send(next_bucket_++);
  }
}

void OverlappedDdp::after_backward(const Microbatch&) {
  microbatch_.reset();
  const std::string unreached =
      describe_unreached(sender_.parameters(), reached_);
  if (!unreached.empty()) throw std::runtime_error(unreached);
}

SyncTimes OverlappedDdp::finish_step() {
  intro::StepClock clock(sender_.parameters().front().tensor.device());
  sender_.finish();
  return {.wire_ms = clock.lap_ms()};
}

// Ranks may see their gradients in different orders; buckets must be the same
// on all of them, so rank 0's order holds.
void OverlappedDdp::rebuild() {
  const auto count = static_cast<std::int64_t>(ready_order_.size());
  at::Tensor order = at::empty({count}, at::kLong);
  for (std::int64_t i = 0; i < count; ++i) {
    order.data_ptr<std::int64_t>()[i] =
        static_cast<std::int64_t>(ready_order_[i]);
  }
  if (group_ != nullptr) {
    at::Tensor on_device = order.to(group_->device());
    group_->broadcast(on_device);
    order = on_device.cpu();
  }
  const auto* const first = order.const_data_ptr<std::int64_t>();
  sender_.set_plan(plan_buckets(sender_.parameters(),
                                std::vector<std::size_t>(first, first + count),
                                caps_));
  rebuilt_ = true;
}

}  // namespace dai::ddp
