// SPDX-License-Identifier: Apache-2.0
#pragma once

// Inputs for a model that we know only from its file, from a line of text.
//
//   make_inputs(parse_input_shapes("8x128:int64:50257,8x16"), 1234, device);

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <string>
#include <vector>

namespace dai::intro {

struct InputSpec {
  std::vector<std::int64_t> shape;
  at::ScalarType dtype = at::kFloat;
  std::int64_t below = 2;  // integer values are 0 .. below - 1
};

// "8x128:int64:50257,8x16": sizes, then the type (float32 when left out;
// float16, bfloat16, float64, int32, int64, bool), then for integers the number
// of values (2 when left out). UsageError quotes what it does not understand.
std::vector<InputSpec> parse_input_shapes(const std::string& text);

// Values from the seed, the same on every machine: uniform in [-1, 1), or ids.
std::vector<at::Tensor> make_inputs(const std::vector<InputSpec>& specs,
                                    std::uint64_t seed, at::Device device);

}  // namespace dai::intro
