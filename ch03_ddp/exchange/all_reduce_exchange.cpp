// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/exchange/all_reduce_exchange.h"

#include "common/torch/c10d_compat.h"
#include "common/torch/process_group.h"

namespace dai::ddp {

struct AllReduceExchange::Sent {
  c10::intrusive_ptr<::c10d::Work> work;
};

AllReduceExchange::AllReduceExchange(ProcessGroup* group) : group_(group) {}
AllReduceExchange::~AllReduceExchange() = default;

void AllReduceExchange::start(ReadyBucket bucket) {
  if (group_ == nullptr) return;
  std::vector<at::Tensor> tensors{std::move(bucket.flat)};
  sent_.push_back({group_->c10d()->allreduce(tensors)});
}

void AllReduceExchange::finish() {
  for (const Sent& sent : sent_) sent.work->wait();
  sent_.clear();
}

}  // namespace dai::ddp
