// SPDX-License-Identifier: Apache-2.0
#pragma once

// How equal two trainings are, asked of their weights.
//
//   differing_bits(flat_parameters(a.parameters()),
//                  flat_parameters(b.parameters()));  // 0: the same model

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "ch01_intro/named_parameter.h"

namespace dai::intro {

// A copy of all of them, one after the other: [elements], on their device.
at::Tensor flat_parameters(const std::vector<NamedParameter>& parameters);

// How many bits differ between two tensors of the same shape and type. Not
// "how far apart": 0.0 and -0.0 are equal numbers, and one bit apart. Throws
// std::invalid_argument when shapes or types differ.
std::int64_t differing_bits(const at::Tensor& a, const at::Tensor& b);

// The largest |a - b|, infinite where one of them is NaN: NaN compares false
// with everything and would pass as "no difference".
double max_difference(const at::Tensor& a, const at::Tensor& b);

}  // namespace dai::intro
