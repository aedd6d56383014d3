// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/sync/canonical_sum.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "ch01_intro/microbatches.h"
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
  const MicrobatchRange mine = microbatches_of_rank(
      microbatches, group ? group->rank() : 0, group ? group->size() : 1);
  first_ = mine.first;
  filled_.resize(static_cast<std::size_t>(mine.count));
  rows_ = at::empty({mine.count, elements},
                    parameters_.front().tensor.options().requires_grad(false));
}

void CanonicalSync::begin_step() {
  filled_.assign(filled_.size(), false);
  for (auto& parameter : parameters_) parameter.tensor.mutable_grad().reset();
}

void CanonicalSync::after_backward(const Microbatch& microbatch) {
  const std::int64_t place = microbatch.id - first_;
  if (place < 0 || place >= rows_.size(0) || filled_[place]) {
    throw std::logic_error(fmt::format(
        "CanonicalSync: microbatch {} came twice or is not one of this rank's "
        "{} .. {}",
        microbatch.id, first_, first_ + rows_.size(0) - 1));
  }
  filled_[place] = true;
  at::Tensor row = rows_[place];
  std::int64_t offset = 0;
  for (auto& parameter : parameters_) {
    const std::int64_t n = parameter.tensor.numel();
    row.narrow(0, offset, n).copy_(parameter.tensor.grad().reshape(-1));
    offset += n;
    // Or the next backward would add to it, in an order of its own.
    parameter.tensor.mutable_grad().reset();
  }
}

SyncTimes CanonicalSync::finish_step() {
  const auto missing = std::find(filled_.begin(), filled_.end(), false);
  if (missing != filled_.end()) {
    throw std::logic_error(
        fmt::format("CanonicalSync: microbatch {} has not come before "
                    "finish_step()",
                    first_ + (missing - filled_.begin())));
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
