// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace dai::ddp {

// Makes the columns of `matrix` [n, r] orthonormal in place, by the modified
// Gram-Schmidt process: each column loses its part along those before it, twice
// (once is not enough in float32), and is scaled to length 1. A column that has
// nothing left becomes zero. Returns how many columns are not.
std::int64_t orthogonalize(const at::Tensor& matrix);

}  // namespace dai::ddp
