// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/decoder/initialization.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "ch01_intro/counter_random.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

constexpr double kDeviation = 0.02;

std::int64_t elements_of(const DecoderConfig& config, const std::string& name) {
  const auto parameters = config.parameters();
  const auto found =
      std::find_if(parameters.begin(), parameters.end(),
                   [&](const ParameterShape& p) { return p.name == name; });
  if (found == parameters.end()) {
    throw UsageError(
        fmt::format("decoder {} has no parameter {}", config.name, name));
  }
  return found->elements();
}

}  // namespace

double initial_deviation(const DecoderConfig& config, const std::string& name) {
  if (name.ends_with("norm.weight")) return 0;
  const bool into_residual =
      name.ends_with(".o_proj.weight") || name.ends_with(".down_proj.weight");
  return into_residual
             ? kDeviation / std::sqrt(2.0 * static_cast<double>(config.layers))
             : kDeviation;
}

void fill_bell_shaped(std::uint64_t key, std::int64_t begin, double deviation,
                      std::span<float> out) {
  // Four integers 0 .. 65535: mean 131070, variance 4 (65536^2 - 1) / 12.
  constexpr std::int32_t kMean = 4 * 65535 / 2;
  const auto scale =
      static_cast<float>(deviation / std::sqrt((65536.0 * 65536.0 - 1) / 3));
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto element = static_cast<std::uint64_t>(begin) + i;
    const std::uint64_t draw = mix64(key ^ mix64(element));
    const auto sum =
        static_cast<std::int32_t>((draw & 0xffff) + (draw >> 16 & 0xffff) +
                                  (draw >> 32 & 0xffff) + (draw >> 48));
    out[i] = static_cast<float>(sum - kMean) * scale;
  }
}

void fill_initial(const DecoderConfig& config, const std::string& name,
                  std::uint64_t seed, std::int64_t begin,
                  std::span<float> out) {
  const std::int64_t elements = elements_of(config, name);
  const auto count = static_cast<std::int64_t>(out.size());
  if (begin < 0 || begin > elements || count > elements - begin) {
    throw std::invalid_argument(
        fmt::format("elements {} to {} of {}, which has {}", begin,
                    begin + count, name, elements));
  }
  const double deviation = initial_deviation(config, name);
  if (deviation == 0) {
    std::fill(out.begin(), out.end(), 1.0f);
  } else {
    fill_bell_shaped(stream_key(seed, name), begin, deviation, out);
  }
}

}  // namespace dai::intro
