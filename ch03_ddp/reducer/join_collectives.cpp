// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/reducer/join_collectives.h"

#include <ATen/ops/full.h>

#include <stdexcept>
#include <vector>

#include "common/torch/c10d_compat.h"
#include "common/torch/process_group.h"

namespace dai::ddp {
namespace {

at::Tensor one_number(ProcessGroup& group, double value) {
  return at::full({1}, value, at::TensorOptions(group.device()));
}

double reduced(ProcessGroup& group, double value, ReduceOp op) {
  at::Tensor number = one_number(group, value);
  group.all_reduce(number, op);
  return number.item<double>();
}

}  // namespace

c10::intrusive_ptr<::c10d::Work> announce_active(ProcessGroup& group) {
  std::vector<at::Tensor> one{one_number(group, 1)};
  return group.c10d()->allreduce(one);
}

bool somebody_is_active(ProcessGroup& group) {
  return reduced(group, 0, ReduceOp::kSum) > 0;
}

bool somebody_has_ended(ProcessGroup& group, bool i_have) {
  return reduced(group, i_have ? 1 : 0, ReduceOp::kSum) > 0;
}

void announce_sync(ProcessGroup& group, bool synchronises) {
  reduced(group, synchronises ? 1 : 0, ReduceOp::kSum);
}

bool somebody_synchronises(ProcessGroup& group) {
  return reduced(group, 0, ReduceOp::kSum) > 0;
}

int largest_rank(ProcessGroup& group, bool candidate) {
  const double largest =
      reduced(group, candidate ? group.rank() : -1, ReduceOp::kMax);
  if (largest < 0) throw std::logic_error("no rank has the model to copy");
  return static_cast<int>(largest);
}

}  // namespace dai::ddp
