// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/microbatches.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/errors.h"

namespace dai::intro {
namespace {

TEST(MicrobatchesOfRank, CoverAllIdsOnce) {
  for (const int ranks : {1, 2, 3, 4, 6, 12}) {
    std::int64_t next = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const MicrobatchRange range = microbatches_of_rank(12, rank, ranks);
      EXPECT_EQ(range.first, next);
      next += range.count;
    }
    EXPECT_EQ(next, 12);
  }
}

TEST(MicrobatchesOfRank, UnevenSharesAreRefusedNamingBothNumbers) {
  try {
    microbatches_of_rank(12, 0, 5);
    FAIL() << "5 ranks cannot share 12 microbatches";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("--microbatches 12"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("5 ranks"));
  }
}

}  // namespace
}  // namespace dai::intro
