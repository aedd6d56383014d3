// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/counter_random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace dai::intro {
namespace {

// The first output of SplitMix64 seeded with 0, as its authors publish it.
TEST(CounterRandom, MixesAsSplitMix64) {
  EXPECT_EQ(mix64(0), 0xe220a8397b1dcdafu);
}

// Published weights and orders hang on these values.
TEST(CounterRandom, KeepsItsStreams) {
  EXPECT_EQ(stream_key(1234, "layer1.weight"), 0x5f891698d4b8afceu);
  EXPECT_EQ(uniform01(stream_key(1234, "layer1.weight"), 0), 0x1.57f58p-3f);
}

TEST(CounterRandom, IsUniformBelowOne) {
  const std::uint64_t key = stream_key(1234, "test");
  constexpr int kDraws = 100000;
  double sum = 0, sum_of_squares = 0;
  float lowest = 1, highest = 0;
  for (int i = 0; i < kDraws; ++i) {
    const float u = uniform01(key, i);
    sum += u;
    sum_of_squares += u * u;
    lowest = std::min(lowest, u);
    highest = std::max(highest, u);
  }
  EXPECT_GE(lowest, 0.0f);
  EXPECT_LT(highest, 1.0f);
  EXPECT_NEAR(sum / kDraws, 1.0 / 2, 0.005);
  EXPECT_NEAR(sum_of_squares / kDraws, 1.0 / 3, 0.005);
}

TEST(CounterRandom, NeighbouringStreamsShareNothing) {
  const std::uint64_t a = stream_key(1234, "layer1.weight");
  const std::uint64_t b = stream_key(1234, "layer2.weight");
  const std::uint64_t c = stream_key(1235, "layer1.weight");
  double ab = 0, ac = 0;
  for (int i = 0; i < 10000; ++i) {
    ab += (uniform01(a, i) - 0.5) * (uniform01(b, i) - 0.5);
    ac += (uniform01(a, i) - 0.5) * (uniform01(c, i) - 0.5);
  }
  // Correlation of independent streams: 0 with a deviation of 1 / 100.
  EXPECT_LT(std::abs(ab / 10000 * 12), 0.05);
  EXPECT_LT(std::abs(ac / 10000 * 12), 0.05);
}

}  // namespace
}  // namespace dai::intro
