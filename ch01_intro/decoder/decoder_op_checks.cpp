// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/decoder/decoder_op_checks.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pow.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <stdexcept>
#include <vector>

#include "common/errors.h"

namespace dai::intro {
namespace {

std::string shape(const at::Tensor& tensor) {
  return fmt::format(
      "[{}]", fmt::join(tensor.sizes().begin(), tensor.sizes().end(), ", "));
}

[[noreturn]] void refuse(const std::string& why) {
  throw std::invalid_argument(why);
}

}  // namespace

RopeTable rope_table(std::int64_t positions, std::int64_t head_dim,
                     double theta, at::Device device) {
  if (positions < 0 || head_dim < 2 || head_dim % 2 != 0 || !(theta > 0)) {
    refuse(
        fmt::format("rope_table: positions {}, head_dim {}, theta {}: at "
                    "least 0, an even number and above 0 are expected",
                    positions, head_dim, theta));
  }
  // On the CPU and in float64, whatever the device: the same table for all
  // ranks of a kind of machine.
  const auto f64 = at::TensorOptions().dtype(at::kDouble);
  const at::Tensor frequency = at::pow(
      theta, at::arange(0, head_dim, 2, f64) / -static_cast<double>(head_dim));
  const at::Tensor angle = at::outer(at::arange(positions, f64), frequency);
  return {angle.cos().to(at::kFloat).to(device),
          angle.sin().to(at::kFloat).to(device)};
}

void check_rms_norm(const at::Tensor& x, const at::Tensor& weight) {
  if (x.dim() < 1 || weight.dim() != 1 || x.size(-1) != weight.size(0)) {
    refuse(
        fmt::format("rms_norm: x {} and weight {}: [..., hidden] and "
                    "[hidden] are expected",
                    shape(x), shape(weight)));
  }
}

void check_rope(const at::Tensor& x, const RopeTable& table) {
  if (x.dim() != 4 || x.size(-1) != 2 * table.cos.size(-1)) {
    refuse(
        fmt::format("rope: x {}: [batch, seq, heads, {}] is expected, as "
                    "the table was made for",
                    shape(x), 2 * table.cos.size(-1)));
  }
  if (x.size(1) > table.cos.size(0)) {
    refuse(
        fmt::format("rope: a sequence of {}, but the table ends after {} "
                    "positions",
                    x.size(1), table.cos.size(0)));
  }
}

void check_swiglu(const at::Tensor& gate, const at::Tensor& up) {
  if (gate.sizes() != up.sizes()) {
    refuse(fmt::format("swiglu: gate {} and up {} differ in shape", shape(gate),
                       shape(up)));
  }
}

void check_token_loss(const at::Tensor& hidden, const at::Tensor& head,
                      const at::Tensor& targets) {
  if (hidden.dim() != 2 || head.dim() != 2 || targets.dim() != 1 ||
      hidden.size(1) != head.size(1) || hidden.size(0) != targets.size(0)) {
    refuse(
        fmt::format("token_loss: hidden {}, head {}, targets {}: [tokens, "
                    "hidden], [vocab, hidden], [tokens] are expected",
                    shape(hidden), shape(head), shape(targets)));
  }
  if (targets.scalar_type() != at::kLong) {
    refuse(fmt::format("token_loss: targets are {}, int64 is expected",
                       c10::toString(targets.scalar_type())));
  }
}

void check_targets(const at::Tensor& targets, std::int64_t vocab) {
  const at::Tensor here = targets.to(at::kCPU).contiguous();
  const auto* target = here.const_data_ptr<std::int64_t>();
  for (std::int64_t t = 0; t < here.numel(); ++t) {
    const bool inside = target[t] >= 0 && target[t] < vocab;
    if (!inside && target[t] != kIgnoredTarget) {
      throw UsageError(
          fmt::format("token_loss: target {} at position {}: 0 to {} are "
                      "expected, or {} for none",
                      target[t], t, vocab - 1, kIgnoredTarget));
    }
  }
}

}  // namespace dai::intro
