// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>
#include <vector>

namespace dai::intro {
namespace {

std::vector<std::uint64_t> order(std::uint64_t seed, std::uint64_t epoch,
                                 std::uint64_t count) {
  std::vector<std::uint64_t> samples;
  for (std::uint64_t i = 0; i < count; ++i) {
    samples.push_back(sample_at(seed, epoch, i, count));
  }
  return samples;
}

TEST(Sampler, IsABijectionAtEverySize) {
  // Around the powers of two and of four, where the domain changes its size.
  for (const std::uint64_t count :
       {1, 2, 3, 4, 5, 10, 15, 16, 17, 255, 256, 257, 1000, 4097, 60000}) {
    std::vector<bool> seen(count, false);
    for (const std::uint64_t sample : order(1234, 0, count)) {
      ASSERT_LT(sample, count);
      ASSERT_FALSE(seen[sample]) << "twice: " << sample << " of " << count;
      seen[sample] = true;
    }
  }
}

TEST(Sampler, EachEpochAndSeedHasItsOwnOrder) {
  const auto first = order(1234, 0, 60000);
  for (const auto& other : {order(1234, 1, 60000), order(1235, 0, 60000)}) {
    int equal_places = 0;
    for (std::size_t i = 0; i < first.size(); ++i) {
      equal_places += first[i] == other[i];
    }
    // Two random orders agree in one place on average.
    EXPECT_LT(equal_places, 12);
  }
}

TEST(Sampler, LooksShuffled) {
  const auto samples = order(1234, 0, 60000);
  // Neighbours of a random order are a third of the range apart on average.
  double distance = 0;
  for (std::size_t i = 1; i < samples.size(); ++i) {
    distance += std::abs(static_cast<double>(samples[i]) -
                         static_cast<double>(samples[i - 1]));
  }
  EXPECT_NEAR(distance / (samples.size() - 1), 20000, 400);
  // Each tenth of the order draws evenly from the lower half of the data.
  for (std::size_t tenth = 0; tenth < 10; ++tenth) {
    int lower = 0;
    for (std::size_t i = 0; i < 6000; ++i) {
      lower += samples[tenth * 6000 + i] < 30000;
    }
    EXPECT_NEAR(lower, 3000, 250);
  }
}

// Changing the order changes every loss curve that was ever written down, so
// it must be a decision, not an accident.
TEST(Sampler, KeepsItsPublishedOrder) {
  const auto samples = order(1234, 0, 60000);
  EXPECT_THAT(std::vector(samples.begin(), samples.begin() + 6),
              testing::ElementsAre(47597, 20189, 25188, 33364, 34782, 32776));
  EXPECT_EQ(sample_at(7, 3, 41, 100), 72u);
}

TEST(Sampler, RefusesAPositionBeyondTheEnd) {
  EXPECT_THROW(sample_at(1234, 0, 10, 10), std::out_of_range);
  EXPECT_THROW(sample_at(1234, 0, 0, 0), std::out_of_range);
}

}  // namespace
}  // namespace dai::intro
