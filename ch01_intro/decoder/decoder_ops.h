// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a Llama-style decoder computes outside its matrix products and its
// attention, twice, behind one table of functions:
//
//   naive_ops()  plain operators, each a pass over memory; PyTorch derives the
//                gradients and keeps what they need
//   fused_ops()  one pass each, forward and backward, with own gradients:
//                RMSNorm keeps x and one number a row, SwiGLU gate and up,
//                RoPE nothing, and the loss never holds all logits at once
//
//   const DecoderOps& ops = fused_ops();
//   at::Tensor normed = ops.rms_norm(x, weight, 1e-5);
//   at::Tensor loss = ops.token_loss(normed, head, targets);  // a sum
//   loss.backward();
//
// Both run on CPU and CUDA, in float32 and bfloat16 (naive also in float64);
// vector lengths of any size, strided inputs, no rows at all. Under autocast
// to bfloat16 the loss's matrix products take bfloat16; everything else
// computes in float32 whatever the inputs' type, and returns the inputs' type.
// The fused functions compute nothing for gradients that nobody asked for, and
// refuse to be differentiated twice (std::logic_error). On the CPU their bits
// do not depend on the number of threads.
//
// Papers: RMSNorm arXiv:1910.07467, RoPE 2104.09864, SwiGLU 2002.05202; the
// chunked loss after Liger-Kernel, 2410.10989.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace dai::intro {

// Cosine and sine of position x theta^(-2i / head_dim), i < head_dim / 2.
struct RopeTable {
  at::Tensor cos, sin;  // float32 [positions, head_dim / 2]
};

// Angles are computed in float64. Throws std::invalid_argument for an odd
// head_dim, for positions < 0 or for theta <= 0.
RopeTable rope_table(std::int64_t positions, std::int64_t head_dim,
                     double theta, at::Device device);

// One rung of the ladder: the operations of a decoder outside its matrix
// products and attention. Wrong shapes throw std::invalid_argument.
struct DecoderOps {
  const char* name;  // "naive", "fused"

  // x [..., in], weight [out, in] -> [..., out]: x weight^T. The fused rung
  // takes the faster of the libraries that LibTorch brings (cpu_product.h).
  at::Tensor (*linear)(const at::Tensor& x, const at::Tensor& weight);

  // x [..., hidden], weight [hidden] -> like x:
  // x / sqrt(mean(x^2) + eps) * weight
  at::Tensor (*rms_norm)(const at::Tensor& x, const at::Tensor& weight,
                         double eps);

  // x [batch, seq, heads, head_dim] (may be a strided view), positions
  // 0..seq-1 -> like x. Element i pairs with i + head_dim / 2, which is Hugging
  // Face's order of a Llama checkpoint (the paper pairs 2i with 2i + 1).
  at::Tensor (*rope)(const at::Tensor& x, const RopeTable& table);

  // silu(gate) * up, both [..., ffn] -> like gate
  at::Tensor (*swiglu)(const at::Tensor& gate, const at::Tensor& up);

  // Sum over the tokens of -log softmax(hidden head^T)[target]:
  // hidden [tokens, hidden], head [vocab, hidden], targets [tokens] int64
  // (kIgnoredTarget: no loss, no gradient) -> float32 scalar (float64 of
  // float64). NaN in, NaN out. Throws dai::UsageError for a target outside [0,
  // vocab), naming it and its position.
  at::Tensor (*token_loss)(const at::Tensor& hidden, const at::Tensor& head,
                           const at::Tensor& targets);
};

inline constexpr std::int64_t kIgnoredTarget = -100;

const DecoderOps& naive_ops();
const DecoderOps& fused_ops();
// By that name. Throws UsageError that lists them.
const DecoderOps& decoder_ops(const std::string& name);

}  // namespace dai::intro
