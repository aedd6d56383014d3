// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/trainer/parameter_view.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "ch01_intro/decoder/row_ranges.h"
#include "ch01_intro/trainer/squared_sum.h"

namespace dai::intro {
namespace {

// [blocks] float64, on the CPU for a CPU tensor.
at::Tensor squared_blocks_on_cpu(const at::Tensor& flat) {
  const std::int64_t count = flat.numel();
  const std::int64_t blocks = (count + kNormBlock - 1) / kNormBlock;
  at::Tensor sums = at::empty({blocks}, at::kDouble);
  const float* data = flat.const_data_ptr<float>();
  double* out = sums.data_ptr<double>();
  for_row_ranges(
      blocks, /*grain=*/4, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const std::int64_t first = i * kNormBlock;
          out[i] = squared_sum({data + first, static_cast<std::size_t>(std::min(
                                                  kNormBlock, count - first))});
        }
      });
  return sums;
}

at::Tensor squared_blocks(const at::Tensor& grad) {
  const at::Tensor flat = grad.reshape({-1});
  if (flat.is_cpu() && flat.scalar_type() == at::kFloat) {
    return squared_blocks_on_cpu(flat.contiguous());
  }
  const std::int64_t whole = flat.numel() / kNormBlock * kNormBlock;
  std::vector<at::Tensor> sums;
  const auto square_sum = [](const at::Tensor& rows) {
    return rows.to(at::kDouble).square_().sum(/*dim=*/1);
  };
  if (whole > 0) {
    sums.push_back(square_sum(flat.narrow(0, 0, whole).view({-1, kNormBlock})));
  }
  if (whole < flat.numel()) {
    sums.push_back(
        square_sum(flat.narrow(0, whole, flat.numel() - whole).view({1, -1})));
  }
  return at::cat(sums);
}

}  // namespace

WholeParameters::WholeParameters(std::vector<NamedParameter> parameters)
    : parameters_(std::move(parameters)) {}

std::vector<ParameterSlice> WholeParameters::slices() {
  std::vector<ParameterSlice> slices;
  slices.reserve(parameters_.size());
  for (const auto& [name, tensor] : parameters_) {
    slices.push_back({.name = name,
                      .value = tensor.detach(),
                      .grad = tensor.grad(),
                      .decays = tensor.dim() >= 2});
  }
  return slices;
}

at::Tensor WholeParameters::squared_norm_blocks() {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> blocks;
  for (const auto& [name, tensor] : parameters_) {
    if (!tensor.grad().defined()) {
      throw std::logic_error(
          fmt::format("parameter {} has no gradient: did backward run, and "
                      "does the loss depend on it?",
                      name));
    }
    blocks.push_back(squared_blocks(tensor.grad()));
  }
  return at::cat(blocks).cpu();
}

double gradient_norm(ParameterView& view) {
  const at::Tensor blocks = view.squared_norm_blocks();
  const double* sums = blocks.const_data_ptr<double>();
  double total = 0;
  for (std::int64_t i = 0; i < blocks.numel(); ++i) total += sums[i];
  return std::sqrt(total);
}

double clip_gradients(ParameterView& view, double limit) {
  const at::NoGradGuard no_grad;
  const double norm = gradient_norm(view);
  if (limit <= 0 || !std::isfinite(norm) || norm <= limit) return norm;
  for (ParameterSlice& slice : view.slices()) slice.grad.mul_(limit / norm);
  return norm;
}

}  // namespace dai::intro
