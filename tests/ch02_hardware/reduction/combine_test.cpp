// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/reduction/combine.h"

#include <gmock/gmock.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "ch02_hardware/reduction/float16.h"

namespace dai::hardware {
namespace {

using Bytes = std::vector<std::byte>;

template <class T>
std::vector<T> combined(const CombineKernels& kernels, std::vector<T> a,
                        const std::vector<T>& b, DType dtype, ReduceOp op) {
  kernels.combine_arrays(a.data(), a.data(), b.data(), a.size(), dtype, op);
  return a;
}

TEST(Combine, DoesWhatItsNameSaysInEveryKernel) {
  for (const CombineKernels& kernels : combine_kernels()) {
    SCOPED_TRACE(kernels.name);
    const std::vector<float> a = {1.5f, -2, 7}, b = {0.25f, -3, 9};
    const auto f32 = [&](ReduceOp op) {
      return combined(kernels, a, b, DType::kFloat32, op);
    };
    EXPECT_EQ(f32(ReduceOp::kSum), (std::vector<float>{1.75f, -5, 16}));
    EXPECT_EQ(f32(ReduceOp::kAvg), (std::vector<float>{1.75f, -5, 16}));
    EXPECT_EQ(f32(ReduceOp::kMin), (std::vector<float>{0.25f, -3, 7}));
    EXPECT_EQ(f32(ReduceOp::kMax), (std::vector<float>{1.5f, -2, 9}));
    EXPECT_EQ(f32(ReduceOp::kProduct), (std::vector<float>{0.375f, 6, 63}));
    using Flags = std::vector<std::uint8_t>;
    const Flags x = {0, 0, 1, 1}, y = {0, 1, 0, 1};
    const auto flags = [&](ReduceOp op) {
      return combined(kernels, x, y, DType::kBool, op);
    };
    EXPECT_EQ(flags(ReduceOp::kSum), (Flags{0, 1, 1, 1}));
    EXPECT_EQ(flags(ReduceOp::kMax), (Flags{0, 1, 1, 1}));
    EXPECT_EQ(flags(ReduceOp::kProduct), (Flags{0, 0, 0, 1}));
    EXPECT_EQ(flags(ReduceOp::kMin), (Flags{0, 0, 0, 1}));
    using Ints = std::vector<std::int32_t>;
    const std::int32_t most = std::numeric_limits<std::int32_t>::max();
    EXPECT_EQ(combined(kernels, Ints{most, 2}, Ints{1, 3}, DType::kInt32,
                       ReduceOp::kSum),
              (Ints{-most - 1, 5}));
  }
}

TEST(Combine, ANanOnEitherSideWins) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const CombineKernels& kernels : combine_kernels()) {
    for (const ReduceOp op : kAllReduceOps) {
      std::vector<float> a(20, 1), b(20, 2);
      a[3] = b[17] = nan;
      const auto c = combined(kernels, a, b, DType::kFloat32, op);
      EXPECT_TRUE(std::isnan(c[3]) && std::isnan(c[17])) << to_string(op);
    }
  }
}

TEST(Combine, AverageDividesAndIntegersTruncate) {
  for (const CombineKernels& kernels : combine_kernels()) {
    std::vector<float> f = {7, -7};
    kernels.divide_array(f.data(), 2, DType::kFloat32, 2);
    EXPECT_EQ(f, (std::vector<float>{3.5f, -3.5f}));
    std::vector<std::int64_t> i = {7, -7};
    kernels.divide_array(i.data(), 2, DType::kInt64, 2);
    EXPECT_EQ(i, (std::vector<std::int64_t>{3, -3}));
  }
  for (const CombineKernels& kernels : combine_kernels()) {
    std::vector<std::int8_t> narrow = {100, -100};
    kernels.divide_array(narrow.data(), 2, DType::kInt8, 256);
    EXPECT_EQ(narrow, (std::vector<std::int8_t>{0, 0}));
    const std::vector<std::int16_t> low = {-1};
    EXPECT_EQ(combined(kernels, low, low, DType::kInt16, ReduceOp::kProduct),
              (std::vector<std::int16_t>{1}));
  }
  EXPECT_THROW(check_reduction(DType::kBool, ReduceOp::kAvg),
               std::invalid_argument);
}

// Any bits, any alignment, in place or not: all kernels agree to the bit.
TEST(Combine, AllKernelsGiveTheSameBits) {
  std::mt19937_64 random(1);
  const auto& plain = combine_kernels().back();
  for (int round = 0; round < 400; ++round) {
    const DType dtype = kAllDTypes[random() % std::size(kAllDTypes)];
    ReduceOp op = kAllReduceOps[random() % std::size(kAllReduceOps)];
    const std::size_t count = random() % 100, shift = random() % 8;
    const std::size_t bytes = count * size_of(dtype);
    Bytes a(bytes + 8), b(bytes + 8);
    for (auto* room : {&a, &b}) {
      for (std::byte& x : *room) {
        x = static_cast<std::byte>(dtype == DType::kBool ? random() % 2
                                                         : random());
      }
    }
    const auto run = [&](const CombineKernels& kernels, bool in_place) {
      Bytes into = a, other(bytes + 8);
      std::byte* const to = (in_place ? into : other).data() + shift;
      kernels.combine_arrays(to, into.data() + shift, b.data() + shift, count,
                             dtype, op);
      if (dtype != DType::kBool) kernels.divide_array(to, count, dtype, 3);
      return Bytes(to, to + bytes);
    };
    // Which NaN a NaN becomes is the compiler's choice; that it is one, not.
    const auto same = [&](const Bytes& x, const Bytes& y) {
      for (std::size_t i = 0; i < count; ++i) {
        const auto number = [&](const Bytes& from) -> double {
          const std::byte* at = from.data() + i * size_of(dtype);
          std::uint64_t bits = 0;
          std::memcpy(&bits, at, size_of(dtype));
          if (dtype == DType::kFloat32) {
            return std::bit_cast<float>(static_cast<std::uint32_t>(bits));
          }
          if (dtype == DType::kFloat64) return std::bit_cast<double>(bits);
          const auto half = static_cast<std::uint16_t>(bits);
          if (dtype == DType::kBFloat16) return from_bf16(half);
          if (dtype == DType::kFloat16) return from_fp16(half);
          return 0;
        };
        const std::size_t at = i * size_of(dtype);
        const bool equal =
            std::memcmp(x.data() + at, y.data() + at, size_of(dtype)) == 0;
        if (!equal && !(std::isnan(number(x)) && std::isnan(number(y)))) {
          return false;
        }
      }
      return true;
    };
    const Bytes reference = run(plain, false);
    for (const CombineKernels& kernels : combine_kernels()) {
      EXPECT_TRUE(same(run(kernels, false), reference) &&
                  same(run(kernels, true), reference))
          << kernels.name << " " << to_string(dtype) << " " << to_string(op);
    }
  }
}

TEST(Copy, MovesEveryByteAndNoMore) {
  for (const CombineKernels& kernels : combine_kernels()) {
    for (std::size_t bytes = 0; bytes < 1500; bytes += 1 + bytes / 7) {
      for (const std::size_t shift : {0, 1, 63, 64}) {
        Bytes from(bytes + 128), to(bytes + 256, std::byte{0xee});
        for (std::size_t i = 0; i < from.size(); ++i) {
          from[i] = static_cast<std::byte>(i * 37 % 251);
        }
        kernels.copy_bytes(to.data() + 64 + shift, from.data() + shift, bytes);
        for (std::size_t i = 0; i < to.size(); ++i) {
          const bool inside = i >= 64 + shift && i < 64 + shift + bytes;
          ASSERT_EQ(to[i], inside ? from[i - 64] : std::byte{0xee})
              << kernels.name << " " << bytes << " at " << i;
        }
      }
    }
  }
}

TEST(Float16, EveryValueComesBack) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    if (!std::isnan(from_fp16(half))) {
      EXPECT_EQ(to_fp16(from_fp16(half)), half);
    } else {
      EXPECT_TRUE(std::isnan(from_fp16(to_fp16(from_fp16(half)))));
    }
    if (!std::isnan(from_bf16(half))) {
      EXPECT_EQ(to_bf16(from_bf16(half)), half);
    } else {
      EXPECT_TRUE(std::isnan(from_bf16(to_bf16(from_bf16(half)))));
    }
  }
}

TEST(Float16, RoundsToNearestTiesToEven) {
  EXPECT_EQ(to_fp16(1.0f), 0x3c00);
  EXPECT_EQ(to_fp16(1.0f + 0x1p-11f), 0x3c00);      // a tie, down
  EXPECT_EQ(to_fp16(1.0f + 3 * 0x1p-11f), 0x3c02);  // a tie, up
  EXPECT_EQ(to_fp16(1.0f + 0x1p-11f + 0x1p-20f), 0x3c01);
  EXPECT_EQ(to_fp16(65504.0f), 0x7bff);
  EXPECT_EQ(to_fp16(65519.0f), 0x7bff);
  EXPECT_EQ(to_fp16(65520.0f), 0x7c00);  // infinity
  EXPECT_EQ(to_fp16(0x1p-24f), 0x0001);
  EXPECT_EQ(to_fp16(0x1p-25f), 0x0000);  // a tie, to zero
  EXPECT_EQ(to_fp16(-0x1p-14f), 0x8400);
  EXPECT_EQ(to_bf16(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(to_bf16(1.0f + 3 * 0x1p-8f), 0x3f82);
}

}  // namespace
}  // namespace dai::hardware
