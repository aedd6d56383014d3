// SPDX-License-Identifier: Apache-2.0
// Timetables small enough to be done by hand.
#include "ch03_ddp/tuning/overlap_forecast.h"

#include <gtest/gtest.h>

namespace dai::ddp {
namespace {

double half_a_ms_for_100(double bytes) {
  return bytes / 200;
}
const BackwardTimetable kThree{.ready_ms = {3, 2, 1}, .bytes = {100, 100, 100}};

TEST(OverlapForecast, BucketsLeaveWhileTheRestIsComputed) {
  // [1, 1.5], [2, 2.5], [3, 3.5]: the last one has nothing to hide behind.
  const auto apart =
      forecast_overlap({{2}, {1}, {0}}, kThree, half_a_ms_for_100, 0);
  EXPECT_DOUBLE_EQ(apart.end_ms, 3.5);
  EXPECT_DOUBLE_EQ(apart.exposed_ms, 0.5);
  EXPECT_DOUBLE_EQ(apart.wire_ms, 1.5);
  EXPECT_DOUBLE_EQ(apart.hidden, 2.0 / 3);
  const auto together =
      forecast_overlap({{2, 1, 0}}, kThree, half_a_ms_for_100, 0);
  EXPECT_DOUBLE_EQ(together.exposed_ms, 1.5);
  EXPECT_EQ(together.hidden, 0);
}

TEST(OverlapForecast, ABucketWaitsForTheOneBefore) {
  const auto wrong_way =
      forecast_overlap({{0}, {1}, {2}}, kThree, half_a_ms_for_100, 0);
  EXPECT_DOUBLE_EQ(wrong_way.end_ms, 4.5);
  EXPECT_EQ(wrong_way.hidden, 0);
}

TEST(OverlapForecast, ABusyWireMakesTheNextBucketWait) {
  // [1, 3], [3, 5], [5, 7] of two milliseconds each.
  const auto slow =
      forecast_overlap({{2}, {1}, {0}}, kThree, [](double) { return 2.0; }, 0);
  EXPECT_DOUBLE_EQ(slow.end_ms, 7);
  EXPECT_DOUBLE_EQ(slow.exposed_ms, 4);
}

TEST(OverlapForecast, WithFullContentionNothingIsWon) {
  for (const BucketPlan& plan : {BucketPlan{{2}, {1}, {0}}, {{2, 1, 0}}}) {
    EXPECT_DOUBLE_EQ(
        forecast_overlap(plan, kThree, half_a_ms_for_100, 1).end_ms, 4.5);
  }
  // Halfway: backward is at 1, 2.25 and 3.5 where it would be at 1, 2 and 3.
  EXPECT_DOUBLE_EQ(
      forecast_overlap({{2}, {1}, {0}}, kThree, half_a_ms_for_100, 0.5).end_ms,
      4.0);
}

TEST(OverlapForecast, ContentionIsFoundAgain) {
  const BucketPlan plan{{2}, {1}, {0}};
  for (const double contention : {0.1, 0.6, 1.0, 1.7}) {
    const double end =
        forecast_overlap(plan, kThree, half_a_ms_for_100, contention).end_ms;
    EXPECT_NEAR(fit_contention(plan, kThree, half_a_ms_for_100, end),
                contention, 1e-6);
  }
  EXPECT_NEAR(fit_contention(plan, kThree, half_a_ms_for_100, 1), 0, 1e-6);
  EXPECT_NEAR(fit_contention(plan, kThree, half_a_ms_for_100, 99),
              kMostContention, 1e-6);
}

TEST(BackwardTimetable, GradientsInTheOrderOfTheirTimes) {
  EXPECT_EQ(kThree.ready_order(), (std::vector<std::size_t>{2, 1, 0}));
  EXPECT_EQ(kThree.compute_end_ms(), 3);
}

}  // namespace
}  // namespace dai::ddp
