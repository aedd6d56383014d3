// SPDX-License-Identifier: Apache-2.0
#pragma once

// One collective with inputs that everybody can compute, and what must come of
// it: written down plainly, element by element, in double. Values are small
// integers (products: powers of two), so that every type holds every partial
// result exactly and the order of additions makes no difference.
//
//   CollectiveCase one{.what = Collective::kAllReduce, .count = 1000, ...};
//   run_and_check(one, algorithm, transport);    // throws what is wrong

#include <cstdint>

#include "ch02_hardware/collectives/algorithms.h"

namespace dai::hardware::testing {

struct CollectiveCase {
  Collective what = Collective::kAllReduce;
  std::size_t count = 0;  // as in operands.h
  DType dtype = DType::kFloat32;
  ReduceOp op = ReduceOp::kSum;
  int root = 0;
  bool in_place = false;
  std::uint64_t seed = 0;

  // Elements of this rank's input and output; 0: it has none.
  std::size_t input_count(int rank, int ranks) const;
  std::size_t output_count(int rank, int ranks) const;
  double input(int rank, std::size_t element) const;
  double expected(int rank, int ranks, std::size_t element) const;
  // Bytes that a slot or a message holds, for Algorithm::runs_on().
  std::size_t bytes() const { return count * size_of(dtype); }
};

// Runs it on this rank, between guard bytes, at an odd address now and then,
// and compares every element. Throws std::runtime_error naming the first that
// is wrong, input that has changed, or a guard that has.
void run_and_check(const CollectiveCase& one, const Algorithm& algorithm,
                   Transport& transport);

}  // namespace dai::hardware::testing
