// SPDX-License-Identifier: Apache-2.0
// What the tuner recommends for wires that are made up, and the fit of one that
// is real.
#include "ch03_ddp/tuning/bucket_tuner.h"

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "tests/support/distributed_test.h"

namespace dai::ddp {
namespace {

using dai::testing::group;
using hardware::Collective;

// 20 gradients of a MiB, one a millisecond, the last parameter's first.
BucketForecaster made_up(double alpha_s, double gb_per_s) {
  BucketForecaster forecaster;
  for (int i = 0; i < 20; ++i) {
    forecaster.parameters.push_back(
        {"p" + std::to_string(i), at::zeros({1 << 18})});
    forecaster.timetable.ready_ms.push_back(20 - i);
    forecaster.timetable.bytes.push_back(1 << 20);
  }
  forecaster.fit.ranks = 2;
  forecaster.fit.model = {.what = Collective::kAllReduce,
                          .algorithm = "ring",
                          .medium = "made up",
                          .lines = {}};
  for (auto& line : forecaster.fit.model.lines) {
    line = {.alpha_s = alpha_s, .beta_s_per_byte = 1e-9 / gb_per_s};
  }
  return forecaster;
}

TEST(BucketForecaster, AQuickWireWantsSmallBuckets) {
  const auto best = made_up(1e-7, 2).best(3);
  ASSERT_EQ(best.size(), 3u);
  EXPECT_EQ(best[0].buckets, 20u);
  EXPECT_LT(best[0].forecast.exposed_ms, 1);
}

TEST(BucketForecaster, ALatencyOfMillisecondsWantsFewLargeOnes) {
  const BucketForecaster slow = made_up(5e-3, 2);
  const auto best = slow.best(3);
  EXPECT_LE(best[0].buckets, 3u);
  EXPECT_LT(best[0].forecast.end_ms,
            slow.at(BucketCaps::of_mib(1, 1)).forecast.end_ms / 3);
}

TEST(BucketForecaster, FullContentionWantsOneBucket) {
  BucketForecaster forecaster = made_up(1e-4, 2);
  forecaster.contention = 1;
  EXPECT_EQ(forecaster.best(1)[0].buckets, 1u);
}

TEST(BucketForecaster, NoTwoCandidatesAreTheSameAndNoneIsTheDefault) {
  const BucketForecaster forecaster = made_up(1e-4, 2);
  std::set<BucketPlan> plans{forecaster.plan(BucketCaps{})};
  const auto all = forecaster.best(100);
  EXPECT_GE(all.size(), 4u);
  for (const BucketCandidate& candidate : all) {
    EXPECT_TRUE(plans.insert(forecaster.plan(candidate.caps)).second);
    EXPECT_EQ(candidate.buckets, forecaster.plan(candidate.caps).size());
  }
}

std::vector<double> steps(double base, int shift = 0) {
  std::vector<double> ms;
  for (int i = 0; i < 30; ++i) ms.push_back(base + ((i + shift) * 7 % 11) * .2);
  return ms;
}

TEST(ChooseTrial, OnlyWhatIsFasterBeyondNoise) {
  EXPECT_EQ(choose_trial(steps(100), {steps(99.9, 5), steps(103)}),
            std::nullopt);
  EXPECT_EQ(choose_trial(steps(100), {steps(101), steps(95), steps(90)}), 2u);
  EXPECT_EQ(choose_trial(steps(100), {}), std::nullopt);
}

TEST(ChooseTrial, AnEstimateThatIsOnlyNoiseDoesNotWin) {
  // On average a hair faster, with steps all over the place.
  std::vector<double> wild;
  for (int i = 0; i < 30; ++i) wild.push_back(i % 2 == 0 ? 60 : 139.8);
  std::vector<double> standard = steps(100);
  EXPECT_EQ(choose_trial(standard, {wild}), std::nullopt);
}

TEST(AllReduceFit, ModelsTheGroupItWasMeasuredOnAndAgreesOnAllRanks) {
  const AllReduceFit fit = fit_all_reduce(group(), 1 << 20, /*repeats=*/5);
  ASSERT_EQ(fit.points.size(), 9u);  // 4 KiB to 1 MiB
  EXPECT_TRUE(fit.points.front().fitted && fit.points.back().fitted);
  EXPECT_FALSE(fit.points[1].fitted);
  EXPECT_EQ(fit.model.medium, group().backend_name());
  EXPECT_GE(fit.milliseconds(1 << 20), 0);
  std::string mine;
  for (const auto& point : fit.points) {
    EXPECT_GT(point.measured_ms, 0);
    mine += std::to_string(point.measured_ms) + " " +
            std::to_string(point.model_ms) + "\n";
  }
  for (const std::string& other : group().gather_strings(mine)) {
    EXPECT_EQ(other, mine);
  }
}

}  // namespace
}  // namespace dai::ddp
