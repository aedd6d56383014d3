// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/sync/canonical_sum.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <stdexcept>

#include "ch01_intro/sync/step_clock.h"
#include "common/torch/process_group.h"

namespace dai::intro {

at::Tensor add_by_fixed_tree(at::Tensor rows) {
  const std::int64_t count = rows.size(0);
  for (std::int64_t stride = 1; stride < count; stride *= 2) {
    for (std::int64_t i = 0; i + stride < count; i += 2 * stride) {
      rows[i].add_(rows[i + stride]);
    }
  }
  return rows[0];
}

at::Tensor naive_canonical_sum(at::Tensor my_rows, ProcessGroup* group,
                               SyncTimes* times) {
  StepClock clock(my_rows.device());
  SyncTimes spent;
  at::Tensor rows = my_rows;
  if (group) {
    // Arrive first, then gather: waiting for the slowest rank is not the
    // wire's fault, and the breakdown should not say so.
    group->barrier();
    spent.wait_ms = clock.lap_ms();
    // [ranks, microbatches / ranks, elements]: contiguous ownership makes the
    // gathered rows lie in the order of their ids.
    rows = group->all_gather(my_rows).reshape({-1, my_rows.size(1)});
    spent.wire_ms = clock.lap_ms();
  }
  at::Tensor sum = add_by_fixed_tree(rows);
  spent.add_ms = clock.lap_ms();
  if (times) *times = spent;
  return sum;
}

CanonicalSync::CanonicalSync(std::vector<NamedParameter> parameters,
                             std::int64_t microbatches, ProcessGroup* group)
    : parameters_(std::move(parameters)),
      microbatches_(microbatches),
      group_(group) {
  std::int64_t elements = 0;
  for (const auto& parameter : parameters_) {
    elements += parameter.tensor.numel();
  }
  const std::int64_t mine = microbatches / (group ? group->size() : 1);
  rows_ = at::empty({mine, elements},
                    parameters_.front().tensor.options().requires_grad(false));
}

void CanonicalSync::begin_step() {
  filled_ = 0;
  for (auto& parameter : parameters_) parameter.tensor.mutable_grad().reset();
}

void CanonicalSync::after_backward(const Microbatch& microbatch) {
  // This rank's ids are contiguous and start at a multiple of their number.
  at::Tensor row = rows_[microbatch.id % rows_.size(0)];
  std::int64_t offset = 0;
  for (auto& parameter : parameters_) {
    const std::int64_t n = parameter.tensor.numel();
    row.narrow(0, offset, n).copy_(parameter.tensor.grad().reshape(-1));
    offset += n;
    // Or the next backward would add to it, in an order of its own.
    parameter.tensor.mutable_grad().reset();
  }
  ++filled_;
}

SyncTimes CanonicalSync::finish_step() {
  if (filled_ != rows_.size(0)) {
    throw std::logic_error(fmt::format(
        "CanonicalSync: {} of this rank's {} microbatches came before "
        "finish_step()",
        filled_, rows_.size(0)));
  }
  SyncTimes times;
  at::Tensor sum = naive_canonical_sum(rows_, group_, &times);
  StepClock clock(sum.device());
  at::Tensor mean = sum.div(microbatches_);
  std::int64_t offset = 0;
  for (auto& parameter : parameters_) {
    const std::int64_t n = parameter.tensor.numel();
    parameter.tensor.mutable_grad() =
        mean.narrow(0, offset, n).view_as(parameter.tensor);
    offset += n;
  }
  times.add_ms += clock.lap_ms();
  return times;
}

}  // namespace dai::intro
