// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/reducer/exchange_hook.h"

#include "ch03_ddp/exchange/bucket_subject.h"

namespace dai::ddp {

ExchangeHook::ExchangeHook(const std::vector<intro::NamedParameter>& parameters,
                           BucketExchange& exchange, double divisor)
    : parameters_(parameters), exchange_(exchange), divisor_(divisor) {
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    index_of_[parameters[i].tensor.unsafeGetTensorImpl()] = i;
  }
}

c10::intrusive_ptr<c10::ivalue::Future> ExchangeHook::runHook(
    c10d::GradBucket& bucket) {
  ReadyBucket ready{.index = bucket.getIndex(),
                    .last = bucket.isLast(),
                    .flat = bucket.getBuffer(),
                    .gradients = bucket.getGradients()};
  for (const at::Tensor& parameter : bucket.getParameters()) {
    ready.parameters.push_back(index_of_.at(parameter.unsafeGetTensorImpl()));
  }
  if (exchange_.keeps_microbatches_apart()) {
    for (std::size_t i = 0; i < ready.parameters.size(); ++i) {
      exchange_.keep(ready.parameters[i], microbatch_, ready.gradients[i]);
    }
  }
  const bool last = ready.last;
  std::vector<c10::Device> devices;
  if (ready.flat.is_cuda()) devices.push_back(ready.flat.device());
  under_way_.emplace_back(ready.flat,
                          c10::make_intrusive<c10::ivalue::Future>(
                              c10::TensorType::get(), std::move(devices)));
  auto future = under_way_.back().second;
  {
    const std::string subject = bucket_subject(ready, parameters_);
    const CallSubject what(subject);
    exchange_.start(std::move(ready));
  }
  if (last) {
    exchange_.finish();
    for (auto& [flat, done] : under_way_) {
      if (divisor_ != 1) flat.div_(divisor_);
      done->markCompleted(flat);
    }
    under_way_.clear();
  }
  return future;
}

}  // namespace dai::ddp
