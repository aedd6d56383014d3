// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/model_file/block_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

namespace dai::paged {
namespace {

using ::testing::ElementsAre;

std::vector<float> values_of(BlockFormat format, std::string_view bytes) {
  std::vector<float> values(bytes.size() / block_bytes(format) *
                            block_values(format));
  dequantize(format, std::as_bytes(std::span(bytes)), values);
  return values;
}

constexpr char kOne[] = "\x00\x3c";   // 1.0 in binary16
constexpr char kHalf[] = "\x00\x38";  // 0.5

std::string text(const char* bytes, std::size_t n) {
  return {bytes, n};
}

TEST(HalfToFloat, EveryPatternIsWhatItsPartsSay) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const double sign = bits >> 15 != 0 ? -1 : 1;
    const int exponent = static_cast<int>(bits >> 10 & 31);
    const double mantissa = bits & 1023;
    const float value = half_to_float(static_cast<std::uint16_t>(bits));
    if (exponent == 31 && mantissa != 0) {
      EXPECT_TRUE(std::isnan(value)) << bits;
      continue;
    }
    const double expected =
        exponent == 31  ? sign * std::numeric_limits<double>::infinity()
        : exponent == 0 ? sign * std::ldexp(mantissa, -24)
                        : sign * std::ldexp(1024 + mantissa, exponent - 25);
    EXPECT_EQ(value, expected) << bits;
    EXPECT_EQ(std::signbit(value), sign < 0) << bits;
  }
}

TEST(Dequantize, PlainFormats) {
  EXPECT_THAT(values_of(BlockFormat::kF32, text("\0\0\x80\x3f\0\0\0\xc0", 8)),
              ElementsAre(1, -2));
  EXPECT_THAT(values_of(BlockFormat::kF16, text("\x00\x3c\x01\x80", 4)),
              ElementsAre(1, -0x1p-24F));
  EXPECT_THAT(values_of(BlockFormat::kBF16, text("\x80\x3f\x00\xc0", 4)),
              ElementsAre(1, -2));
}

TEST(Dequantize, NibblesLowHalfFirst) {
  // Byte i holds value i (low) and value 16 + i (high).
  std::string nibbles;
  for (int i = 0; i < 16; ++i) nibbles += static_cast<char>(i | (15 - i) << 4);
  const auto q4_0 = values_of(BlockFormat::kQ4_0, text(kHalf, 2) + nibbles);
  const auto q4_1 =
      values_of(BlockFormat::kQ4_1, text(kHalf, 2) + text(kOne, 2) + nibbles);
  for (int i = 0; i < 32; ++i) {
    const int q = i < 16 ? i : 31 - i;
    EXPECT_EQ(q4_0[i], 0.5F * static_cast<float>(q - 8)) << i;
    EXPECT_EQ(q4_1[i], 0.5F * static_cast<float>(q) + 1) << i;
  }
}

TEST(Dequantize, SignedBytes) {
  std::string block = text(kHalf, 2);
  for (int i = 0; i < 32; ++i) block += static_cast<char>(i * 8 - 128);
  const auto values = values_of(BlockFormat::kQ8_0, block);
  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(values[i], 0.5F * static_cast<float>(i * 8 - 128)) << i;
  }
}

// The packing of eight 6-bit scales and minima into 12 bytes, written from the
// other side than the source: bit by bit from the values.
std::string packed_scales(const int (&scale)[8], const int (&min)[8]) {
  unsigned char out[12] = {};
  for (int j = 0; j < 4; ++j) {
    out[j] = static_cast<unsigned char>(scale[j] | (scale[j + 4] >> 4) << 6);
    out[j + 4] = static_cast<unsigned char>(min[j] | (min[j + 4] >> 4) << 6);
    out[j + 8] = static_cast<unsigned char>((scale[j + 4] & 15) |
                                            (min[j + 4] & 15) << 4);
  }
  return {reinterpret_cast<const char*>(out), 12};
}

TEST(Dequantize, SuperBlocksOfFourAndFiveBits) {
  const int scale[8] = {1, 63, 7, 32, 33, 16, 62, 5};
  const int min[8] = {0, 9, 63, 31, 48, 17, 2, 60};
  const auto q_of = [](int at, int bits) { return at * 7 % (1 << bits); };
  std::string low(128, '\0'), high(32, '\0');
  for (int at = 0; at < 256; ++at) {
    const int q = q_of(at, 5), sub = at / 32, i = at % 32;
    low[sub / 2 * 32 + i] =
        static_cast<char>(low[sub / 2 * 32 + i] | (q & 15) << (sub % 2 * 4));
    high[i] = static_cast<char>(high[i] | (q >> 4) << sub);
  }
  const std::string head =
      text(kHalf, 2) + text(kOne, 2) + packed_scales(scale, min);
  const auto q4 = values_of(BlockFormat::kQ4_K, head + low);
  const auto q5 = values_of(BlockFormat::kQ5_K, head + high + low);
  for (int at = 0; at < 256; ++at) {
    const int sub = at / 32, q = q_of(at, 5);
    EXPECT_EQ(q4[at], 0.5F * static_cast<float>(scale[sub]) *
                              static_cast<float>(q & 15) -
                          static_cast<float>(min[sub]))
        << at;
    EXPECT_EQ(q5[at],
              0.5F * static_cast<float>(scale[sub]) * static_cast<float>(q) -
                  static_cast<float>(min[sub]))
        << at;
  }
}

TEST(Dequantize, SuperBlocksOfSixBits) {
  std::string low(128, '\0'), high(64, '\0'), scales;
  for (int i = 0; i < 16; ++i) scales += static_cast<char>(i * 15 - 120);
  const auto q_of = [](int at) { return at * 11 % 64; };
  for (int at = 0; at < 256; ++at) {
    const int half = at / 128, group = at % 128 / 32, i = at % 32;
    const int q = q_of(at), byte = half * 64 + group % 2 * 32 + i;
    low[byte] = static_cast<char>(low[byte] | (q & 15) << (group / 2 * 4));
    high[half * 32 + i] =
        static_cast<char>(high[half * 32 + i] | (q >> 4) << (2 * group));
  }
  const auto values =
      values_of(BlockFormat::kQ6_K, low + high + scales + text(kHalf, 2));
  for (int at = 0; at < 256; ++at) {
    EXPECT_EQ(values[at], 0.5F * static_cast<float>(at / 16 * 15 - 120) *
                              static_cast<float>(q_of(at) - 32))
        << at;
  }
}

TEST(Dequantize, RefusesBytesThatAreNoWholeBlocks) {
  std::vector<std::byte> bytes(40);
  std::vector<float> values(64);
  EXPECT_NO_THROW(dequantize(BlockFormat::kQ4_1, bytes, values));
  EXPECT_THROW(
      dequantize(BlockFormat::kQ4_1, std::span(bytes).first(39), values),
      std::invalid_argument);
  EXPECT_THROW(
      dequantize(BlockFormat::kQ4_1, bytes, std::span(values).first(63)),
      std::invalid_argument);
}

TEST(BlockFormats, NamesNumbersAndSizesOfGgml) {
  EXPECT_EQ(format_of_ggml_type(3), BlockFormat::kQ4_1);
  EXPECT_EQ(format_of_ggml_type(14), BlockFormat::kQ6_K);
  EXPECT_EQ(format_of_ggml_type(30), BlockFormat::kBF16);
  EXPECT_FALSE(format_of_ggml_type(6));  // Q5_0
  EXPECT_FALSE(format_of_ggml_type(4000));
  EXPECT_EQ(ggml_type_name(23), "IQ4_XS");
  EXPECT_EQ(ggml_type_name(4000), "");
  EXPECT_EQ(format_name(BlockFormat::kQ5_K), "Q5_K");
  EXPECT_EQ(block_bytes(BlockFormat::kQ5_K), 176U);
}

}  // namespace
}  // namespace dai::paged
