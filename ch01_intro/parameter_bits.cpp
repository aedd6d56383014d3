// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/parameter_bits.h"

#include <ATen/ops/cat.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace dai::intro {
namespace {

const std::uint8_t* bytes(const at::Tensor& tensor) {
  return static_cast<const std::uint8_t*>(tensor.const_data_ptr());
}

}  // namespace

at::Tensor flat_parameters(const std::vector<NamedParameter>& parameters) {
  std::vector<at::Tensor> parts;
  parts.reserve(parameters.size());
  for (const auto& parameter : parameters) {
    parts.push_back(parameter.tensor.detach().reshape(-1));
  }
  return at::cat(parts);
}

std::int64_t differing_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) {
    throw std::invalid_argument(fmt::format(
        "differing_bits: {} [{}] against {} [{}]",
        c10::toString(a.scalar_type()), fmt::join(a.sizes(), ", "),
        c10::toString(b.scalar_type()), fmt::join(b.sizes(), ", ")));
  }
  const at::Tensor left = a.cpu().contiguous(), right = b.cpu().contiguous();
  std::int64_t bits = 0;
  for (std::size_t i = 0; i < left.nbytes(); ++i) {
    const std::uint8_t differing = bytes(left)[i] ^ bytes(right)[i];
    bits += std::popcount(differing);
  }
  return bits;
}

double max_difference(const at::Tensor& a, const at::Tensor& b) {
  const double worst = a.sub(b).abs().max().item<double>();
  return std::isnan(worst) ? std::numeric_limits<double>::infinity() : worst;
}

}  // namespace dai::intro
