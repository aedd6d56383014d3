// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/reduction/combine.h"

#include <vector>

namespace dai::hardware {

namespace portable {
extern const CombineKernels kKernels;
}
namespace avx2 {
extern const CombineKernels kKernels;
}

std::span<const CombineKernels> combine_kernels() {
  static const std::vector<CombineKernels> kernels = [] {
    std::vector<CombineKernels> found;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c")) {
      found.push_back(avx2::kKernels);
    }
#endif
    found.push_back(portable::kKernels);
    return found;
  }();
  return kernels;
}

void combine(void* into, const void* a, const void* b, std::size_t count,
             DType dtype, ReduceOp op) {
  static const auto best = combine_kernels().front().combine_arrays;
  best(into, a, b, count, dtype, op);
}

void copy_piece(void* to, const void* from, std::size_t bytes) {
  static const auto best = combine_kernels().front().copy_bytes;
  best(to, from, bytes);
}

void divide(void* data, std::size_t count, DType dtype, int ranks) {
  static const auto best = combine_kernels().front().divide_array;
  best(data, count, dtype, ranks);
}

}  // namespace dai::hardware
