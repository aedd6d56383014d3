// SPDX-License-Identifier: Apache-2.0
#pragma once

// Float addition is not associative: (a + b) + c and a + (b + c) differ in the
// last bits, and an all_reduce over 4 ranks adds in another order than one
// over 2. So "N ranks compute what one rank computes" holds only up to rounding
// unless the order of the additions is part of the definition. Here it is: one
// binary tree over the microbatch ids, whoever computed them.
//
//   ids    0   1   2   3   4   5   6
//           \ /     \ /     \ /    |     level 1: i += i + 1
//            0       2       4     6     level 2: i += i + 2
//             \_____/         \___/      level 3: i += i + 4
//
// The price: every rank receives every microbatch's gradient (microbatches /
// ranks times the bytes of an all_reduce, and more) and adds all of them. That
// is why it is called naive; later chapters get the same bits for less.
//
//   at::Tensor sum = naive_canonical_sum(my_rows, &group);  // [elements]
//
// Same bits at every number of ranks that divides the number of microbatches,
// provided that the rows have them: same kind of CPU or GPU on all ranks, same
// microbatch shape, one intra-op thread (common/torch/device.h).

#include <cstdint>
#include <vector>

#include "ch01_intro/named_parameter.h"
#include "ch01_intro/sync/gradient_sync.h"

namespace dai {
class ProcessGroup;
}

namespace dai::intro {

// rows: [microbatches, elements], contiguous; overwritten. Returns row 0, which
// then holds the sum of all rows: [elements].
at::Tensor add_by_fixed_tree(at::Tensor rows);

// my_rows: [microbatches / ranks, elements], the rows of this rank's
// microbatches, where rank r owns the ids [r * n, (r + 1) * n). Returns the
// sum over the rows of all ranks, equal on every rank. A null group means that
// this rank is alone. my_rows may be overwritten. `times`, when given,
// receives where the time went.
at::Tensor naive_canonical_sum(at::Tensor my_rows, ProcessGroup* group,
                               SyncTimes* times = nullptr);

// Keeps each microbatch's gradient apart until the step ends, then sums them
// in the canonical order. `microbatches` is the number in a step of all ranks
// together, divisible by the number of ranks (UsageError).
// Throws std::logic_error for a microbatch that is not this rank's or comes
// twice, and in finish_step() for one that never came.
class CanonicalSync : public GradientSync {
 public:
  CanonicalSync(std::vector<NamedParameter> parameters,
                std::int64_t microbatches, ProcessGroup* group);

  void begin_step() override;
  void after_backward(const Microbatch&) override;
  SyncTimes finish_step() override;

 private:
  std::vector<NamedParameter> parameters_;
  std::int64_t microbatches_;
  ProcessGroup* group_;
  at::Tensor rows_;  // [microbatches / ranks, elements of all parameters]
  std::int64_t first_ = 0;    // id of this rank's first microbatch
  std::vector<bool> filled_;  // by row: its gradient is there
};

}  // namespace dai::intro
