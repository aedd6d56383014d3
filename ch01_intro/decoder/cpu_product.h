// SPDX-License-Identifier: Apache-2.0
#pragma once

// Float32 matrix products on a CPU, by the faster of the two libraries that
// LibTorch brings. Its at::mm and at::linear always take MKL, which keeps its
// AVX-512 code for Intel's CPUs; oneDNN generates code for what the CPU
// reports (on one core of an AMD EPYC of 2024: 230 against 100 GFLOP/s at a
// decoder's shapes). Hence MKL on Intel, oneDNN elsewhere.
//
//   at::Tensor y = product(x, weight);       // x weight^T
//   at::Tensor z = fused_linear(x, weight);  // the same, with gradients
//
// The choice is the CPU's alone, so a machine repeats its bits.

#include <ATen/core/Tensor.h>

namespace dai::intro {

// True where product() goes to oneDNN.
bool onednn_is_faster();

// a [m, k], b [n, k], float32 on the CPU, each contiguous or the transpose of
// a contiguous matrix -> a b^T [m, n]. No gradients; under autocast as well.
at::Tensor product(const at::Tensor& a, const at::Tensor& b);

// x [..., in], weight [out, in] -> [..., out]: at::linear without bias. Where
// it has nothing to win (CUDA, another type, autocast, an Intel CPU) it is
// at::linear. Refuses a second derivative where it is not (std::logic_error).
at::Tensor fused_linear(const at::Tensor& x, const at::Tensor& weight);

}  // namespace dai::intro
