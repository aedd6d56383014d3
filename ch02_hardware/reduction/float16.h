// SPDX-License-Identifier: Apache-2.0
#pragma once

// 16-bit floats to float and back, rounding to nearest, ties to even:
// bfloat16 (the upper half of a float) and IEEE 754 binary16.
//
//   float x = from_bf16(0x3fc0);        // 1.5
//   std::uint16_t h = to_fp16(x);       // 0x3e00

// Inlined wherever they are used: a copy that the linker shares could come from
// a file compiled for AVX2, and end a program on a CPU that has none.

#include <cstdint>

namespace dai::hardware {

[[gnu::always_inline]] inline float from_bf16(std::uint16_t bits) {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16);
}

[[gnu::always_inline]] inline std::uint16_t to_bf16(float value) {
  const auto bits = __builtin_bit_cast(std::uint32_t, value);
  const std::uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const std::uint32_t quiet = (bits >> 16) | 0x40;  // a NaN stays one
  const bool nan = (bits & 0x7fffffff) > 0x7f800000;
  return static_cast<std::uint16_t>(nan ? quiet : rounded);
}

[[gnu::always_inline]] inline float from_fp16(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1f;
  const std::uint32_t fraction = bits & 0x3ff;
  if (exponent == 0x1f) {  // infinity; a NaN becomes quiet
    const std::uint32_t quiet = fraction ? 0x400000 : 0;
    return __builtin_bit_cast(float,
                              sign | 0x7f800000 | quiet | fraction << 13);
  }
  if (exponent == 0) {  // zero and subnormal numbers: fraction * 2^-24
    const float value = static_cast<float>(fraction) * 0x1p-24f;
    return __builtin_bit_cast(float,
                              sign | __builtin_bit_cast(std::uint32_t, value));
  }
  return __builtin_bit_cast(float,
                            sign | (exponent + 112) << 23 | fraction << 13);
}

[[gnu::always_inline]] inline std::uint16_t to_fp16(float value) {
  const auto bits = __builtin_bit_cast(std::uint32_t, value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000);
  const std::uint32_t size = bits & 0x7fffffff;
  if (size > 0x7f800000) {  // NaN: keeps its upper bits, becomes quiet
    return sign | 0x7e00 | ((size >> 13) & 0x1ff);
  }
  if (size >= 0x47800000) return sign | 0x7c00;  // 2^16 and more: infinity
  if (size < 0x38800000) {  // below 2^-14: a multiple of 2^-24
    // Adding 0.5 puts the last bit of the sum at 2^-24; the adder rounds.
    const float sum = __builtin_bit_cast(float, size) + 0.5f;
    return static_cast<std::uint16_t>(
        sign | (__builtin_bit_cast(std::uint32_t, sum) - 0x3f000000));
  }
  // A carry out of the fraction goes into the exponent, up to infinity.
  const std::uint32_t rounded = size + 0xfff + ((size >> 13) & 1);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}

}  // namespace dai::hardware
