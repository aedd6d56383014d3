// SPDX-License-Identifier: Apache-2.0
#pragma once

// The inner loops of the fused decoder operations on a CPU, torch-free: rows
// in, rows out, one thread. Each is compiled three times from one source
// (decoder_kernels_body.h) for different vector widths and chosen at run time.
//
//   const DecoderKernels& k = decoder_kernels().front();   // the widest
//   k.f32.swiglu(gate, up, out, n);
//
// Arithmetic is float32 for both element types; bfloat16 results are rounded
// to nearest even. Exponentials are a polynomial: within 2 ulp of e^x for x in
// [-87.3, 88], 0 below, e^88 above, NaN of NaN (decoder_kernels_test measures
// it). Inputs and outputs need no alignment and may not overlap except where
// stated. Results may differ in the last bits between instruction sets, never
// between calls.

#include <cstdint>
#include <vector>

namespace dai::intro {

struct Bf16 {
  std::uint16_t bits;
};

template <class T>  // float or Bf16
struct OpKernels {
  // y = x inverse_rms weight; inverse_rms [rows] is an output.
  void (*rms_norm)(const T* x, const float* weight, float eps, T* y,
                   float* inverse_rms, std::int64_t rows, std::int64_t hidden);
  // dx [rows, hidden]; dweight [hidden] is the sum over these rows. dx may be
  // dy. Either may be null when it is not wanted.
  void (*rms_norm_backward)(const T* dy, const T* x, const float* weight,
                            const float* inverse_rms, T* dx, float* dweight,
                            std::int64_t rows, std::int64_t hidden);
  // Rotates `heads` heads at one position of one sequence by the angles whose
  // cosine and sine are given; y = x is allowed.
  void (*rope)(const T* x, std::int64_t x_head, T* y, std::int64_t y_head,
               const float* cos, const float* sin, float sign,
               std::int64_t heads, std::int64_t half);
  // out = silu(gate) up, n elements
  void (*swiglu)(const T* gate, const T* up, T* out, std::int64_t n);
  void (*swiglu_backward)(const T* dout, const T* gate, const T* up, T* dgate,
                          T* dup, std::int64_t n);
  // losses[r] = -log softmax(logits[r])[target[r]], 0 where target[r] < 0.
  // With `gradient`, the logits become the loss's gradient by them:
  // softmax - one_hot(target), 0 where target[r] < 0.
  void (*softmax_loss)(T* logits, const std::int64_t* target, float* losses,
                       bool gradient, std::int64_t rows, std::int64_t vocab);
};

struct DecoderKernels {
  const char* name;  // "avx512", "avx2", "portable"
  OpKernels<float> f32;
  OpKernels<Bf16> bf16;
  // out[i] = e^x[i]: the exponential by itself, for its test.
  void (*exp)(const float* x, float* out, std::int64_t n);
};

// The kernels that this CPU can run, the widest vectors first.
std::vector<DecoderKernels> decoder_kernels();

}  // namespace dai::intro
