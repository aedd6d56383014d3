// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/ladder/bucketed_ddp.h"

#include <stdexcept>
#include <utility>

#include "ch01_intro/sync/step_clock.h"
#include "ch03_ddp/buckets/unreached.h"

namespace dai::ddp {

using intro::Microbatch;
using intro::SyncTimes;

BucketedDdp::BucketedDdp(std::vector<NamedParameter> parameters,
                         std::int64_t microbatches,
                         std::unique_ptr<BucketExchange> exchange,
                         const BucketCaps& caps)
    : sender_(parameters, microbatches, std::move(exchange),
              plan_buckets(parameters, expected_ready_order(parameters.size()),
                           caps)) {}

void BucketedDdp::begin_step() {
  sender_.begin_step();
}

void BucketedDdp::after_backward(const Microbatch& microbatch) {
  const auto& parameters = sender_.parameters();
  std::vector<bool> reached;
  for (const auto& parameter : parameters) {
    reached.push_back(parameter.tensor.grad().defined());
  }
  const std::string unreached = describe_unreached(parameters, reached);
  if (!unreached.empty()) throw std::runtime_error(unreached);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    sender_.keep(i, microbatch.id);
  }
}

SyncTimes BucketedDdp::finish_step() {
  intro::StepClock clock(sender_.parameters().front().tensor.device());
  for (std::size_t bucket = 0; bucket < sender_.buckets().size(); ++bucket) {
    sender_.send(bucket);
  }
  sender_.finish();
  return {.wire_ms = clock.lap_ms()};
}

}  // namespace dai::ddp
