// SPDX-License-Identifier: Apache-2.0
#pragma once

// Eight bits a number: blocks of kInt8Block numbers share one scale, so that a
// large gradient somewhere does not flatten the small ones everywhere.
//
//   scale = max|x| of the block / 127,   q = round(x / scale), half to even
//
// A block's error is at most scale / 2 a number. A block with an infinity or
// NaN becomes NaN as a whole: an overflow must not be hidden by compression.
//
//   int8_bytes(n)              of n numbers: n + 4 a block
//   pack_int8(numbers, bytes)  and unpack_int8(bytes, numbers)

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace dai::ddp {

inline constexpr std::int64_t kInt8Block = 256;

// numbers: a multiple of kInt8Block.
std::int64_t int8_bytes(std::int64_t numbers);

// numbers [rows, n] float32, n a multiple of kInt8Block; the result is
// [rows, int8_bytes(n)] uint8: the scales, then the numbers.
at::Tensor pack_int8(const at::Tensor& numbers);
// The other way: [rows, n] float32.
at::Tensor unpack_int8(const at::Tensor& bytes, std::int64_t n);

}  // namespace dai::ddp
