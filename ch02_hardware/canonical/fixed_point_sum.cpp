// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/canonical/fixed_point_sum.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <vector>

#include "ch02_hardware/reduction/float16.h"

namespace dai::hardware {
namespace {

constexpr std::uint8_t kSpecial = 255;  // an infinity or a NaN is among them
// Counts of what is special, in one integer: sums of counts are associative,
// too.
constexpr std::int64_t kPlusInfinity = 1;
constexpr std::int64_t kMinusInfinity = std::int64_t{1} << 21;
constexpr std::int64_t kNan = std::int64_t{1} << 42;

// Elements of a chunk, which stays in the cache from step to step.
constexpr std::size_t kChunk = 16384;

// Steps of the grid: |sum| of that many contributions stays below 2^63.
// A value with exponent E is below 2^(E - 126): it becomes an integer below
// 2^bits.
int bits_for(std::int64_t contributions) {
  const auto many = static_cast<std::uint64_t>(contributions);
  return 62 - (std::bit_width(many - 1));
}

// 2^power as a double, for powers that a normal double holds.
double power_of_two(int power) {
  return std::bit_cast<double>(static_cast<std::uint64_t>(power + 1023) << 52);
}

// From an integer of 2^bits at exponent E back to what it stands for.
int scale_power(std::uint8_t exponent, std::int64_t contributions) {
  const int largest = std::max<int>(exponent, 1);  // subnormals: as 1
  return bits_for(contributions) - (largest - 126);
}

float load(const std::byte* from, std::size_t i, DType dtype) {
  if (dtype == DType::kFloat32) {
    float value;
    std::memcpy(&value, from + i * 4, 4);
    return value;
  }
  std::uint16_t half;
  std::memcpy(&half, from + i * 2, 2);
  return dtype == DType::kBFloat16 ? from_bf16(half) : from_fp16(half);
}

// The sum is rounded to a float, and the float to 16 bits: the grid is far
// finer than a float, so the second rounding could only err at a tie of the
// first. It is the same on every rank, which is what this is about.
void store(std::byte* to, std::size_t i, DType dtype, float value) {
  if (dtype == DType::kFloat32) {
    std::memcpy(to + i * 4, &value, 4);
    return;
  }
  const std::uint16_t half =
      dtype == DType::kBFloat16 ? to_bf16(value) : to_fp16(value);
  std::memcpy(to + i * 2, &half, 2);
}

void check(DType dtype, std::int64_t contributions) {
  if (dtype != DType::kFloat32 && dtype != DType::kBFloat16 &&
      dtype != DType::kFloat16) {
    throw std::invalid_argument(std::string("a fixed-point sum of ") +
                                to_string(dtype));
  }
  if (contributions < 1 || contributions > (std::int64_t{1} << 20)) {
    throw std::invalid_argument(
        "a fixed-point sum takes 1 to 2^20 contributions");
  }
}

}  // namespace

std::uint8_t exponent_of(float value) {
  return static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>(value) >> 23);
}

std::int64_t to_fixed_point(float value, std::uint8_t exponent,
                            std::int64_t contributions) {
  if (exponent == kSpecial) {
    if (std::isnan(value)) return kNan;
    if (std::isinf(value)) return value > 0 ? kPlusInfinity : kMinusInfinity;
    return 0;
  }
  // Exact in double: a float's 24 bits times a power of two. nearbyint rounds
  // to nearest, ties to even.
  const double scaled = static_cast<double>(value) *
                        power_of_two(scale_power(exponent, contributions));
  return static_cast<std::int64_t>(std::nearbyint(scaled));
}

float from_fixed_point(std::int64_t sum, std::uint8_t exponent,
                       std::int64_t contributions) {
  if (exponent == kSpecial) {
    const bool nan = sum >= kNan;
    const bool minus = sum % kNan >= kMinusInfinity;
    const bool plus = sum % kMinusInfinity != 0;
    const float infinity = std::numeric_limits<float>::infinity();
    if (nan || (minus && plus)) {
      return std::numeric_limits<float>::quiet_NaN();
    }
    return minus ? -infinity : infinity;
  }
  // One rounding to 24 bits, then an exact power of two, as long as the result
  // is no subnormal number.
  const float rounded = static_cast<float>(sum);
  return static_cast<float>(
      static_cast<double>(rounded) *
      power_of_two(-scale_power(exponent, contributions)));
}

void fixed_point_all_reduce(std::span<const void* const> rows, void* output,
                            std::size_t count, DType dtype,
                            std::int64_t contributions, Transport& t,
                            const Algorithm& sum) {
  check(dtype, contributions);
  const auto row = [&](std::size_t r) {
    return static_cast<const std::byte*>(rows[r]);
  };
  std::vector<std::uint8_t> exponents(count, 0);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t i = 0; i < count; ++i) {
      exponents[i] =
          std::max(exponents[i], exponent_of(load(row(r), i, dtype)));
    }
  }
  Operands largest;
  largest.input = largest.output = exponents.data();
  largest.count = count;
  largest.dtype = DType::kUInt8;
  largest.op = ReduceOp::kMax;
  sum.run(largest, t);

  std::vector<std::int64_t> integers(count, 0);
  for (std::size_t begin = 0; begin < count; begin += kChunk) {
    const std::size_t end = std::min(count, begin + kChunk);
    for (std::size_t r = 0; r < rows.size(); ++r) {
      for (std::size_t i = begin; i < end; ++i) {
        integers[i] +=
            to_fixed_point(load(row(r), i, dtype), exponents[i], contributions);
      }
    }
  }
  Operands exact;
  exact.input = exact.output = integers.data();
  exact.count = count;
  exact.dtype = DType::kInt64;
  sum.run(exact, t);
  auto* const out = static_cast<std::byte*>(output);
  for (std::size_t i = 0; i < count; ++i) {
    store(out, i, dtype,
          from_fixed_point(integers[i], exponents[i], contributions));
  }
}

void naive_fixed_point_sum(std::span<const void* const> rows, void* output,
                           std::size_t count, DType dtype) {
  const auto contributions = static_cast<std::int64_t>(rows.size());
  check(dtype, contributions);
  for (std::size_t i = 0; i < count; ++i) {
    std::uint8_t exponent = 0;
    for (const void* row : rows) {
      const auto* const at = static_cast<const std::byte*>(row);
      exponent = std::max(exponent, exponent_of(load(at, i, dtype)));
    }
    std::int64_t sum = 0;
    for (const void* row : rows) {
      const auto* const at = static_cast<const std::byte*>(row);
      sum += to_fixed_point(load(at, i, dtype), exponent, contributions);
    }
    store(static_cast<std::byte*>(output), i, dtype,
          from_fixed_point(sum, exponent, contributions));
  }
}

}  // namespace dai::hardware
