// SPDX-License-Identifier: Apache-2.0
#pragma once

// The achievable peak: the most floating-point operations a second that a
// matrix product reaches on this device, through the library call that the
// fused rung's linear layers end in (decoder/cpu_product.h: on a CPU the faster
// of MKL and oneDNN). It is measured, not taken from a data sheet: the
// theoretical peak assumes every multiplier busy in every cycle at the highest
// clock, which no product of matrices gets, so a utilisation against it never
// comes near 1. Against this peak it can.
//
//   MatmulPeak peak = achievable_matmul_peak({.dtype = at::kBFloat16});
//   peak.best.shape, peak.best.flop_per_s()
//
// Operands are random (zeros let some GPUs clock higher), weights lie as
// nn.Linear keeps them: [n, k]. CPU and CUDA by the same code; on CUDA events
// on the stream take the time. fp32 means what the global context makes of it
// (TF32 only where somebody switched it on).

#include <ATen/core/Tensor.h>

#include "ch01_intro/roofline/matmul_search.h"

namespace dai::intro {

// One pool of operands, from which products of any shape up to the largest
// take theirs: nothing is allocated or filled between two measurements.
class MatmulPool {
 public:
  // `elements` of each of the three matrices. Throws UsageError for a dtype
  // other than fp32, bf16 and fp16.
  MatmulPool(at::Device device, at::ScalarType dtype, std::int64_t elements,
             std::uint64_t seed = 1234);

  // [m, k] x [n, k]^T, `at_least` times and until `seconds` are over.
  // Throws std::invalid_argument for a shape that is larger than the pool.
  std::vector<double> timed(const MatmulShape& shape, double seconds,
                            int at_least = 3);

 private:
  at::Tensor input_, weight_, output_;  // [elements]
};

struct MatmulPeakOptions {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  MatmulSearch search;
  std::uint64_t seed = 1234;
};

MatmulPeak achievable_matmul_peak(const MatmulPeakOptions& options);

}  // namespace dai::intro
