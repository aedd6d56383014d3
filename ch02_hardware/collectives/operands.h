// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a collective works on, with NCCL's meaning of count and of "in place".
//
//                   count     input            output           in place
//   all_reduce      all       [count]          [count]          input == output
//   reduce          all       [count]          [count] at root  input == output
//   broadcast       all       [count] at root  [count]          input == output
//   all_gather      one rank  [count]          [size * count]   input == output
//                                                          + rank * count
//   reduce_scatter  one rank  [size * count]   [count]          output == input
//                                                          + rank * count
//   gather          one rank  [count]          [size * count] at root
//   scatter         one rank  [size * count] at root   [count]
//   all_to_all      one pair  [size * count]   [size * count]   never
//
// Input and output are the same in the sense above, or do not overlap.
//
//   ring_all_reduce({.input = gradient, .output = gradient, .count = n,
//                    .dtype = DType::kFloat32}, transport);

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "ch02_hardware/reduction/dtype.h"
#include "ch02_hardware/transport/transport.h"

namespace dai::hardware {

struct Operands {
  const void* input = nullptr;
  void* output = nullptr;
  std::size_t count = 0;
  DType dtype = DType::kFloat32;
  ReduceOp op = ReduceOp::kSum;
  int root = 0;

  std::size_t bytes() const { return count * size_of(dtype); }
  const std::byte* in() const { return static_cast<const std::byte*>(input); }
  std::byte* out() const { return static_cast<std::byte*>(output); }
};

// Elements [begin, end), in bytes from the start of a buffer.
struct Slice {
  std::size_t offset = 0, bytes = 0, count = 0;
};
// Part `index` of `parts` of `count` elements; they differ by one at most.
Slice slice_of(std::size_t count, DType dtype, int index, int parts);

// The call that all ranks announce before the first byte moves.
Call call_of(Collective what, const Operands& operands,
             std::string_view algorithm);
// The same without a root, for collectives that have none.
Call rootless_call_of(Collective what, const Operands& operands,
                      std::string_view algorithm);

// Copies, unless both are the same place.
void copy_bytes(void* to, const void* from, std::size_t bytes);

// Room for partial sums, kept for the next call of the same thread: fresh pages
// cost as much as the sum.
std::byte* scratch(std::size_t bytes);

}  // namespace dai::hardware
