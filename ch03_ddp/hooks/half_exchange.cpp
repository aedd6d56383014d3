// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/hooks/half_exchange.h"

#include <stdexcept>
#include <utility>

#include "common/torch/c10d_compat.h"
#include "common/torch/process_group.h"

namespace dai::ddp {

struct HalfExchange::Sent {
  at::Tensor flat;
  at::Tensor half;
  c10::intrusive_ptr<::c10d::Work> work;
};

HalfExchange::HalfExchange(at::ScalarType dtype, ProcessGroup& group)
    : dtype_(dtype), group_(group) {
  if (dtype != at::kHalf && dtype != at::kBFloat16) {
    throw std::invalid_argument("HalfExchange: float16 or bfloat16");
  }
}
HalfExchange::~HalfExchange() = default;

void HalfExchange::start(ReadyBucket bucket) {
  at::Tensor half = bucket.flat.div(group_.size()).to(dtype_);
  std::vector<at::Tensor> tensors{half};
  auto work = group_.c10d()->allreduce(tensors);
  sent_.push_back({std::move(bucket.flat), std::move(half), std::move(work)});
}

void HalfExchange::finish() {
  for (Sent& sent : sent_) {
    sent.work->wait();
    sent.flat.copy_(sent.half).mul_(group_.size());
  }
  sent_.clear();
}

}  // namespace dai::ddp
