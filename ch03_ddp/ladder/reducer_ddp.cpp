// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/ladder/reducer_ddp.h"

#include <utility>

#include "ch01_intro/sync/step_clock.h"
#include "common/torch/process_group.h"

namespace dai::ddp {

using intro::Microbatch;
using intro::SyncTimes;

ReducerDdp::ReducerDdp(std::vector<intro::NamedParameter> parameters,
                       std::int64_t microbatches,
                       std::unique_ptr<BucketExchange> exchange,
                       ProcessGroup& group, const DdpOptions& options)
    : microbatches_(microbatches),
      group_(group),
      ddp_({.name = "model", .parameters = std::move(parameters)}, group,
           options) {
  if (exchange) {
    ddp_.use_exchange(std::move(exchange), static_cast<double>(microbatches));
  }
}

void ReducerDdp::begin_step() {
  for (const auto& parameter : ddp_.parameters()) {
    parameter.tensor.mutable_grad().reset();
  }
}

void ReducerDdp::before_forward(const Microbatch& microbatch) {
  if (microbatch.last_on_rank) {
    no_sync_.reset();
  } else if (!no_sync_) {
    no_sync_.emplace(ddp_);
  }
  ddp_.set_microbatch(microbatch.id);
  ddp_.pre_forward();
}

void ReducerDdp::before_backward(const Microbatch&, const at::Tensor& loss) {
  ddp_.post_forward({loss});
}

void ReducerDdp::after_backward(const Microbatch& microbatch) {
  if (microbatch.last_on_rank) return ddp_.check_reduced();
  BucketExchange* const exchange = ddp_.exchange();
  if (exchange == nullptr || !exchange->keeps_microbatches_apart()) return;
  for (std::size_t i = 0; i < ddp_.parameters().size(); ++i) {
    at::Tensor& gradient = ddp_.parameters()[i].tensor.mutable_grad();
    exchange->keep(i, microbatch.id, std::move(gradient));
    gradient = at::Tensor();
  }
}

// Reducer's mean is over ranks. Dividing by a rank's microbatches once more
// makes it the mean over all of them, rounded as sum / microbatches is wherever
// the number of ranks is a power of two.
SyncTimes ReducerDdp::finish_step() {
  const std::int64_t per_rank = microbatches_ / group_.size();
  if (ddp_.exchange() != nullptr || per_rank == 1) return {};
  intro::StepClock clock(group_.device());
  for (const auto& parameter : ddp_.parameters()) {
    at::Tensor& gradient = parameter.tensor.mutable_grad();
    if (gradient.defined()) gradient.div_(per_rank);
  }
  return {.add_ms = clock.lap_ms()};
}

}  // namespace dai::ddp
