// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/ladder/bucket_sender.h"

#include <utility>

#include "ch03_ddp/exchange/bucket_subject.h"

namespace dai::ddp {

BucketSender::BucketSender(std::vector<NamedParameter> parameters,
                           std::int64_t microbatches,
                           std::unique_ptr<BucketExchange> exchange,
                           BucketPlan plan)
    : parameters_(std::move(parameters)),
      microbatches_(microbatches),
      exchange_(std::move(exchange)) {
  set_plan(std::move(plan));
}

void BucketSender::set_plan(BucketPlan plan) {
  buckets_.reset();  // first, or both would be in memory at once
  buckets_ = std::make_unique<GradientBuckets>(parameters_, std::move(plan));
}

void BucketSender::begin_step() {
  // Autograd's first gradient then moves in without a copy or an addition.
  for (const auto& parameter : parameters_) {
    parameter.tensor.mutable_grad().reset();
  }
}

void BucketSender::keep(std::size_t parameter, std::int64_t microbatch) {
  if (!exchange_->keeps_microbatches_apart()) return;
  at::Tensor& gradient = parameters_[parameter].tensor.mutable_grad();
  exchange_->keep(parameter, microbatch, std::move(gradient));
  gradient = at::Tensor();
}

void BucketSender::send(std::size_t bucket) {
  ReadyBucket ready{.index = bucket,
                    .last = bucket + 1 == buckets_->size(),
                    .flat = buckets_->flat(bucket),
                    .parameters = buckets_->parameters_of(bucket)};
  for (const std::size_t parameter : ready.parameters) {
    if (!exchange_->keeps_microbatches_apart()) {
      buckets_->take_gradient(parameter);
    }
    ready.gradients.push_back(buckets_->view(parameter));
  }
  const std::string subject = bucket_subject(ready, parameters_);
  const CallSubject what(subject);
  exchange_->start(std::move(ready));
}

void BucketSender::finish() {
  exchange_->finish();
  for (std::size_t bucket = 0; bucket < buckets_->size(); ++bucket) {
    if (microbatches_ > 1) buckets_->flat(bucket).div_(microbatches_);
    for (const std::size_t parameter : buckets_->parameters_of(bucket)) {
      parameters_[parameter].tensor.mutable_grad() = buckets_->view(parameter);
    }
  }
}

}  // namespace dai::ddp
