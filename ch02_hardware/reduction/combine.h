// SPDX-License-Identifier: Apache-2.0
#pragma once

// The arithmetic of a reduction: two arrays into one, element by element.
// 16-bit floats are combined in float and rounded to nearest, ties to even,
// after each step; integers wrap; a minimum or maximum with a NaN is NaN, as in
// PyTorch.
//
//   combine(into, a, b, count, DType::kFloat32, ReduceOp::kSum);
//   divide(into, count, DType::kFloat32, ranks);  // makes a kAvg of it
//
// One source compiled for plain C++ and for AVX2, chosen at run time; both give
// the same bits. Arrays may be unaligned; `into` may be `a` or `b` itself.

#include <cstddef>
#include <span>

#include "ch02_hardware/reduction/dtype.h"

namespace dai::hardware {

// into[i] = a[i] op b[i]; kAvg adds. [count]
void combine(void* into, const void* a, const void* b, std::size_t count,
             DType dtype, ReduceOp op);

// data[i] /= ranks: what is left to do for kAvg when the sum is complete.
void divide(void* data, std::size_t count, DType dtype, int ranks);

// memcpy() for the pieces of large buffers. glibc's takes `rep movsb` from some
// size on, which AMD's Zen 3 to 5 do slowly for some pairs of addresses (glibc
// bugs 30994, 30995): 32 KiB to one byte further into a page than they came
// from went at 3.5 instead of 57 GB/s. Ours has no such places. No overlap.
void copy_piece(void* to, const void* from, std::size_t bytes);

// The forms this CPU can run, the fastest first; tests compare them.
struct CombineKernels {
  const char* name;  // "avx2", "portable"
  void (*combine_arrays)(void* into, const void* a, const void* b,
                         std::size_t count, DType dtype, ReduceOp op);
  void (*copy_bytes)(void* to, const void* from, std::size_t bytes);
  void (*divide_array)(void* data, std::size_t count, DType dtype, int ranks);
};
std::span<const CombineKernels> combine_kernels();

}  // namespace dai::hardware
