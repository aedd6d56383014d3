// SPDX-License-Identifier: Apache-2.0
#pragma once

// The sum of squares of floats in double, in an order that depends on nothing
// but n: sixteen running sums, element i in number i % 16, added up pairwise at
// the end. PyTorch's own reduction into double takes over thirty times as long
// as a sum in float (2.11, CPU), which a norm at every step would show.
//
//   double sum = squared_sum({grad.const_data_ptr<float>(), n});
//
// Torch-free. Not a number stays not a number.

#include <cstdint>
#include <span>

namespace dai::intro {

// Elements of a parameter whose squares are one such sum; a gradient's norm is
// then a sum of blocks, whoever holds them (parameter_view.h).
inline constexpr std::int64_t kNormBlock = 65536;

double squared_sum(std::span<const float> values);

}  // namespace dai::intro
