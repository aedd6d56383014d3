// SPDX-License-Identifier: Apache-2.0
#pragma once

// What fused_ops.cpp asks of a device: each forward and backward computation
// by itself, without autograd or autocast around it. The CPU's table is linked
// in, CUDA's lives in libdai_ch01_cuda.so, opened when the first CUDA tensor
// arrives.
//
// Inputs are checked already, float32 or bfloat16, of any strides. Weights of
// rms_norm are float32. What `wanted` leaves out comes back undefined.

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "ch01_intro/decoder/decoder_ops.h"

namespace dai::intro {

struct Wanted {
  bool first = false, second = false;
  bool any() const { return first || second; }
};

struct LossAndGradients {
  at::Tensor loss;     // float32 scalar
  at::Tensor dhidden;  // like hidden
  at::Tensor dhead;    // like head
};

struct FusedDevice {
  // {y, inverse_rms [rows] float32}
  std::array<at::Tensor, 2> (*rms_norm)(const at::Tensor& x,
                                        const at::Tensor& weight, double eps);
  // {dx, dweight float32}
  std::array<at::Tensor, 2> (*rms_norm_backward)(const at::Tensor& dy,
                                                 const at::Tensor& x,
                                                 const at::Tensor& weight,
                                                 const at::Tensor& inverse_rms,
                                                 Wanted wanted);
  // sign -1 rotates back, which is the gradient.
  at::Tensor (*rope)(const at::Tensor& x, const RopeTable& table, float sign);
  at::Tensor (*swiglu)(const at::Tensor& gate, const at::Tensor& up);
  // {dgate, dup}
  std::array<at::Tensor, 2> (*swiglu_backward)(const at::Tensor& dout,
                                               const at::Tensor& gate,
                                               const at::Tensor& up);
  // Matrix products in `type`, float32 or bfloat16.
  LossAndGradients (*token_loss)(const at::Tensor& hidden,
                                 const at::Tensor& head,
                                 const at::Tensor& targets, at::ScalarType type,
                                 Wanted wanted);
};

const FusedDevice& fused_cpu();
// Throws dai::Unavailable where the library is absent.
const FusedDevice& fused_cuda();

}  // namespace dai::intro
