// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/model_file/block_format.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cstring>
#include <stdexcept>

namespace dai::paged {
namespace {

struct FormatFacts {
  std::string_view name;
  std::uint32_t ggml_type;
  std::size_t values, bytes;  // of a block
};

// [BlockFormat]
constexpr std::array<FormatFacts, 9> kFormats{{
    {"F32", 0, 1, 4},
    {"F16", 1, 1, 2},
    {"BF16", 30, 1, 2},
    {"Q4_0", 2, 32, 18},
    {"Q4_1", 3, 32, 20},
    {"Q8_0", 8, 32, 34},
    {"Q4_K", 12, 256, 144},
    {"Q5_K", 13, 256, 176},
    {"Q6_K", 14, 256, 210},
}};

const FormatFacts& facts(BlockFormat format) {
  return kFormats.at(static_cast<std::size_t>(format));
}

// [ggml's number]; an empty one was given up by ggml.
constexpr std::array<std::string_view, 40> kGgmlNames{
    "F32",   "F16",   "Q4_0",    "Q4_1",   "",        "",      "Q5_0",
    "Q5_1",  "Q8_0",  "Q8_1",    "Q2_K",   "Q3_K",    "Q4_K",  "Q5_K",
    "Q6_K",  "Q8_K",  "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL",
    "IQ3_S", "IQ2_S", "IQ4_XS",  "I8",     "I16",     "I32",   "I64",
    "F64",   "IQ1_M", "BF16",    "",       "",        "",      "TQ1_0",
    "TQ2_0", "",      "",        "",       "MXFP4"};

using Bytes = const unsigned char*;

std::uint16_t u16_at(Bytes at) {
  return static_cast<std::uint16_t>(at[0] | at[1] << 8);
}

float half_at(Bytes at) {
  return half_to_float(u16_at(at));
}

float bfloat_at(Bytes at) {
  return std::bit_cast<float>(std::uint32_t{u16_at(at)} << 16);
}

float int8_at(Bytes at) {
  return static_cast<float>(static_cast<signed char>(*at));
}

// Byte i of 16 holds value i in its low and value 16 + i in its high nibble.
void q4_0_block(Bytes block, float* out) {
  const float d = half_at(block);
  for (int i = 0; i < 16; ++i) {
    const int q = block[2 + i];
    out[i] = d * static_cast<float>((q & 15) - 8);
    out[16 + i] = d * static_cast<float>((q >> 4) - 8);
  }
}

void q4_1_block(Bytes block, float* out) {
  const float d = half_at(block), m = half_at(block + 2);
  for (int i = 0; i < 16; ++i) {
    const int q = block[4 + i];
    out[i] = d * static_cast<float>(q & 15) + m;
    out[16 + i] = d * static_cast<float>(q >> 4) + m;
  }
}

void q8_0_block(Bytes block, float* out) {
  const float d = half_at(block);
  for (int i = 0; i < 32; ++i) out[i] = d * int8_at(block + 2 + i);
}

// Scale and minimum of sub-block j of 8. Of 12 bytes the first four hold the
// scales 0-3 in six bits, the next four the minima 0-3; scales and minima 4-7
// have their low nibbles in the last four, their two high bits on top of those.
struct ScaleMin {
  float scale, min;
};
ScaleMin k_scale(Bytes scales, int j) {
  if (j < 4) {
    return {static_cast<float>(scales[j] & 63),
            static_cast<float>(scales[j + 4] & 63)};
  }
  const int low = scales[j + 4];
  return {static_cast<float>((low & 15) | (scales[j - 4] >> 6) << 4),
          static_cast<float>((low >> 4) | (scales[j] >> 6) << 4)};
}

// Q4_K, and Q5_K where `high` points to its fifth bits: bit j of high[i]
// belongs to value i of sub-block j.
void k_block(Bytes block, Bytes high, Bytes nibbles, float* out) {
  const float d = half_at(block), d_min = half_at(block + 2);
  for (int j = 0; j < 8; ++j) {
    const ScaleMin s = k_scale(block + 4, j);
    const float scale = d * s.scale, min = d_min * s.min;
    const Bytes q = nibbles + j / 2 * 32;  // two sub-blocks share 32 bytes
    for (int i = 0; i < 32; ++i) {
      int value = j % 2 == 0 ? q[i] & 15 : q[i] >> 4;
      if (high != nullptr) value |= (high[i] >> j & 1) << 4;
      out[j * 32 + i] = scale * static_cast<float>(value) - min;
    }
  }
}

void q4_k_block(Bytes block, float* out) {
  k_block(block, nullptr, block + 16, out);
}

void q5_k_block(Bytes block, float* out) {
  k_block(block, block + 16, block + 48, out);
}

// Value 32 g + i of each half of 128: its low bits are a nibble of the half's
// 64 bytes (groups 0, 1 low, groups 2, 3 high), its high bits the pair g of
// the half's high[i]. Every 16 values have a scale.
void q6_k_block(Bytes block, float* out) {
  const Bytes scales = block + 192;
  const float d = half_at(block + 208);
  for (int at = 0; at < 256; ++at) {
    const int half = at / 128, group = at % 128 / 32, i = at % 32;
    const int low = block[half * 64 + group % 2 * 32 + i];
    const int high = block[128 + half * 32 + i];
    const int q = (group < 2 ? low & 15 : low >> 4) | (high >> (2 * group) & 3)
                                                          << 4;
    out[at] = d * int8_at(scales + at / 16) * static_cast<float>(q - 32);
  }
}

template <class Block>
void each_block(const FormatFacts& format, Bytes from, std::span<float> values,
                Block block) {
  for (std::size_t at = 0; at < values.size(); at += format.values) {
    block(from, values.data() + at);
    from += format.bytes;
  }
}

}  // namespace

std::string_view format_name(BlockFormat format) {
  return facts(format).name;
}

std::size_t block_values(BlockFormat format) {
  return facts(format).values;
}

std::size_t block_bytes(BlockFormat format) {
  return facts(format).bytes;
}

std::optional<BlockFormat> format_of_ggml_type(std::uint32_t type) {
  for (std::size_t i = 0; i < kFormats.size(); ++i) {
    if (kFormats[i].ggml_type == type) return static_cast<BlockFormat>(i);
  }
  return std::nullopt;
}

std::string_view ggml_type_name(std::uint32_t type) {
  return type < kGgmlNames.size() ? kGgmlNames[type] : std::string_view();
}

float half_to_float(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits} >> 15 << 31;
  const std::uint32_t exponent = bits >> 10 & 31, mantissa = bits & 1023;
  if (exponent == 0) {  // mantissa * 2^-24, which a float holds exactly
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
  }
  // Infinity and NaN keep all ones; the others move their bias from 15 to 127.
  const std::uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
}

void dequantize(BlockFormat format, std::span<const std::byte> blocks,
                std::span<float> values) {
  const FormatFacts& f = facts(format);
  if (values.size() % f.values != 0 ||
      blocks.size() != values.size() / f.values * f.bytes) {
    throw std::invalid_argument(fmt::format("{} bytes of {} are not {} values",
                                            blocks.size(), f.name,
                                            values.size()));
  }
  const auto* from = reinterpret_cast<Bytes>(blocks.data());
  switch (format) {
    case BlockFormat::kF32:
      if (!values.empty()) std::memcpy(values.data(), from, blocks.size());
      return;
    case BlockFormat::kF16:
      return each_block(f, from, values,
                        [](Bytes at, float* out) { *out = half_at(at); });
    case BlockFormat::kBF16:
      return each_block(f, from, values,
                        [](Bytes at, float* out) { *out = bfloat_at(at); });
    case BlockFormat::kQ4_0:
      return each_block(f, from, values, q4_0_block);
    case BlockFormat::kQ4_1:
      return each_block(f, from, values, q4_1_block);
    case BlockFormat::kQ8_0:
      return each_block(f, from, values, q8_0_block);
    case BlockFormat::kQ4_K:
      return each_block(f, from, values, q4_k_block);
    case BlockFormat::kQ5_K:
      return each_block(f, from, values, q5_k_block);
    case BlockFormat::kQ6_K:
      return each_block(f, from, values, q6_k_block);
  }
}

}  // namespace dai::paged
