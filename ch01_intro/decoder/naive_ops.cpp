// SPDX-License-Identifier: Apache-2.0

// The lower rung of decoder_ops.h: the formulas as they stand in the papers.
// Each line below is at least one pass over memory, forward and backward, and
// PyTorch keeps every intermediate that a gradient needs.

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>

#include "ch01_intro/decoder/decoder_op_checks.h"

namespace dai::intro {
namespace {

// float32 for the half types, float64 stays: the tests' reference.
at::Tensor widened(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight) {
  return at::linear(x, weight);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  check_rms_norm(x, weight);
  const at::Tensor wide = widened(x);
  const at::Tensor mean_square = wide.square().mean(-1, /*keepdim=*/true);
  return (wide * at::rsqrt(mean_square + eps) * weight).to(x.scalar_type());
}

at::Tensor rope(const at::Tensor& x, const RopeTable& table) {
  check_rope(x, table);
  const at::Tensor wide = widened(x);
  const std::int64_t seq = x.size(1), half = x.size(3) / 2;
  // [seq, 1, half]: the same angle for every batch and head.
  const at::Tensor cos = table.cos.narrow(0, 0, seq).unsqueeze(1);
  const at::Tensor sin = table.sin.narrow(0, 0, seq).unsqueeze(1);
  const at::Tensor a = wide.narrow(-1, 0, half);
  const at::Tensor b = wide.narrow(-1, half, half);
  return at::cat({a * cos - b * sin, b * cos + a * sin}, -1)
      .to(x.scalar_type());
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  check_swiglu(gate, up);
  return (at::silu(widened(gate)) * widened(up)).to(gate.scalar_type());
}

at::Tensor token_loss(const at::Tensor& hidden, const at::Tensor& head,
                      const at::Tensor& targets) {
  check_token_loss(hidden, head, targets);
  check_targets(targets, head.size(0));
  const at::Tensor logits = widened(at::linear(hidden, head));
  return at::cross_entropy_loss(logits, targets, /*weight=*/{},
                                at::Reduction::Sum, kIgnoredTarget);
}

}  // namespace

const DecoderOps& naive_ops() {
  static const DecoderOps ops{"naive", linear, rms_norm,
                              rope,    swiglu, token_loss};
  return ops;
}

}  // namespace dai::intro
