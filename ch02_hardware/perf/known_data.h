// SPDX-License-Identifier: Apache-2.0
#pragma once

// Inputs that every rank can compute, and what a collective must make of them,
// written down plainly: so that a measurement can check what it has measured.
// Values are small integers (products: powers of two), which every type holds
// exactly in any order of addition; a wrong element is one that differs in a
// bit.
//
//   KnownData data{.what = Collective::kAllReduce, .count = 1000};
//   data.fill_input(rank, ranks, input);
//   ... the collective ...
//   data.count_wrong(rank, ranks, output)     // 0

#include <cstddef>
#include <cstdint>

#include "ch02_hardware/reduction/dtype.h"
#include "ch02_hardware/transport/transport.h"

namespace dai::hardware {

struct KnownData {
  Collective what = Collective::kAllReduce;
  std::size_t count = 0;  // as in operands.h
  DType dtype = DType::kFloat32;
  ReduceOp op = ReduceOp::kSum;
  int root = 0;
  std::uint64_t seed = 0;

  // Elements of a rank's input and output; 0: it has none.
  std::size_t input_count(int rank, int ranks) const;
  std::size_t output_count(int rank, int ranks) const;

  double input(int rank, std::size_t element) const;
  double expected(int rank, int ranks, std::size_t element) const;

  void fill_input(int rank, int ranks, void* input) const;
  // Bytes that no result has, so that nothing left over looks right.
  void spoil_output(int rank, int ranks, void* output) const;
  // Elements of the output that differ from what is expected; `first`, where
  // given, receives the first of them.
  std::size_t count_wrong(int rank, int ranks, const void* output,
                          std::size_t* first = nullptr) const;
};

}  // namespace dai::hardware
