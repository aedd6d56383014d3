// SPDX-License-Identifier: Apache-2.0
#pragma once

// How a weight lies in a model file. Quantised formats cut a row into blocks of
// 32 or 256 values that share a scale (and a minimum or sub-scales): a block is
// the smallest piece that means something by itself.
//
//   dequantize(BlockFormat::kQ4_1, row_bytes, std::span(floats, 576));
//
// Formats follow ggml (github.com/ggml-org/ggml, ggml-common.h), little-endian:
//
//   F32 F16 BF16   plain values
//   Q4_0   32/18 B   f16 d, 16 B of nibbles            x = d (q - 8)
//   Q4_1   32/20 B   f16 d, f16 m, 16 B of nibbles     x = d q + m
//   Q8_0   32/34 B   f16 d, 32 int8                    x = d q
//   Q4_K  256/144 B  f16 d, f16 dmin, 8 x (6-bit scale, 6-bit min) in 12 B,
//                    128 B of nibbles                  x = d sc q - dmin mn
//   Q5_K  256/176 B  the same with a fifth bit in 32 B before the nibbles
//   Q6_K  256/210 B  128 B low nibbles, 64 B high pairs, 16 int8 scales, f16 d
//                                                      x = d sc (q - 32)
//
// Values are computed in float32 in the order written above, so that they are
// equal, bit by bit, to those of Python's `gguf`.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace dai::paged {

enum class BlockFormat : std::uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ4_0,
  kQ4_1,
  kQ8_0,
  kQ4_K,
  kQ5_K,
  kQ6_K,
};

std::string_view format_name(BlockFormat format);
// Values and bytes of a block; a plain format's block is one value.
std::size_t block_values(BlockFormat format);
std::size_t block_bytes(BlockFormat format);

// By ggml's number of the type; nothing for one that is not supported.
std::optional<BlockFormat> format_of_ggml_type(std::uint32_t type);
// The name of that number, supported or not; empty for an unknown one.
std::string_view ggml_type_name(std::uint32_t type);

// Whole blocks of `blocks` to values.size() floats. Throws
// std::invalid_argument when the two do not belong together.
void dequantize(BlockFormat format, std::span<const std::byte> blocks,
                std::span<float> values);

// The float that IEEE 754 binary16 bits stand for: exact, subnormals included.
float half_to_float(std::uint16_t bits);

}  // namespace dai::paged
