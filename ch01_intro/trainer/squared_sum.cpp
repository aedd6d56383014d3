// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/trainer/squared_sum.h"

#include <array>
#include <cstddef>

namespace dai::intro {

double squared_sum(std::span<const float> values) {
  constexpr std::size_t kLanes = 16;  // hides the latency of an addition
  std::array<double, kLanes> sums{};
  const std::size_t whole = values.size() / kLanes * kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const double x = values[i + lane];
      sums[lane] += x * x;
    }
  }
  for (std::size_t i = whole; i < values.size(); ++i) {
    const double x = values[i];
    sums[i - whole] += x * x;
  }
  for (std::size_t stride = kLanes / 2; stride > 0; stride /= 2) {
    for (std::size_t lane = 0; lane < stride; ++lane) {
      sums[lane] += sums[lane + stride];
    }
  }
  return sums[0];
}

}  // namespace dai::intro
