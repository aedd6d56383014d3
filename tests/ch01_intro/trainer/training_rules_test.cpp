// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "ch01_intro/counter_random.h"
#include "ch01_intro/trainer/learning_rate.h"
#include "ch01_intro/trainer/loss_watch.h"
#include "ch01_intro/trainer/squared_sum.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

using ::testing::HasSubstr;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(WarmupCosine, RisesFallsAndStays) {
  const WarmupCosine s{
      .peak = 1, .warmup_steps = 4, .total_steps = 14, .floor_fraction = 0.2};
  EXPECT_DOUBLE_EQ(learning_rate(s, 0), 0.25);
  EXPECT_DOUBLE_EQ(learning_rate(s, 3), 1);
  EXPECT_DOUBLE_EQ(learning_rate(s, 4), 1);
  EXPECT_DOUBLE_EQ(learning_rate(s, 9), 0.6);  // half way between 1 and 0.2
  EXPECT_DOUBLE_EQ(learning_rate(s, 14), 0.2);
  EXPECT_DOUBLE_EQ(learning_rate(s, 1000), 0.2);
  for (std::int64_t step = 5; step < 14; ++step) {
    EXPECT_LT(learning_rate(s, step), learning_rate(s, step - 1)) << step;
  }
}

TEST(WarmupCosine, WithoutWarmupItBeginsAtThePeak) {
  EXPECT_DOUBLE_EQ(learning_rate({.peak = 2, .total_steps = 5}, 0), 2);
  // All of it warm-up: no division by zero behind it.
  const WarmupCosine all{.peak = 1, .warmup_steps = 5, .total_steps = 5};
  EXPECT_DOUBLE_EQ(learning_rate(all, 5), 0.1);
}

TEST(WarmupCosine, RefusesWhatCannotBe) {
  for (const WarmupCosine& bad :
       {WarmupCosine{.peak = 0}, WarmupCosine{.peak = kNan},
        WarmupCosine{.peak = kInfinity}, WarmupCosine{.warmup_steps = -1},
        WarmupCosine{.warmup_steps = 2, .total_steps = 1},
        WarmupCosine{.total_steps = 0}, WarmupCosine{.floor_fraction = 1.5},
        WarmupCosine{.floor_fraction = kNan}}) {
    EXPECT_THROW(bad.check(), UsageError);
  }
  EXPECT_NO_THROW(WarmupCosine{}.check());
}

TEST(LossWatch, NeverAcceptsWhatIsNotFinite) {
  LossWatch watch({.give_up_after = 3});
  EXPECT_TRUE(watch.see(2.5, 1).accept);
  EXPECT_FALSE(watch.see(kNan, 1).accept);
  const auto verdict = watch.see(2.5, kInfinity);
  EXPECT_FALSE(verdict.accept);
  EXPECT_THAT(verdict.reason, HasSubstr("gradient norm is inf at step 3"));
  EXPECT_TRUE(watch.see(2.5, 1).accept);  // ends the row
  EXPECT_FALSE(watch.see(kNan, 1).accept);
  EXPECT_FALSE(watch.see(kNan, 1).accept);
  EXPECT_THROW(watch.see(kNan, 1), std::runtime_error);
  EXPECT_EQ(watch.skipped(), 5);
}

TEST(LossWatch, SpikesAreSkippedUntilTheyAreTheUsual) {
  constexpr int kWindow = 128;
  LossWatch watch({.spike_z = 6, .window = kWindow});
  EXPECT_TRUE(watch.see(1000, 1).accept);  // the window is not full yet
  for (int i = 0; i < 2 * kWindow; ++i) {
    EXPECT_TRUE(watch.see(2 + 0.1 * (i % 2), 1 + 0.1 * (i % 3)).accept) << i;
  }
  EXPECT_TRUE(watch.see(0.1, 1).accept);  // a fall is no spike
  EXPECT_THAT(watch.see(2, 50).reason, HasSubstr("gradient norm 50"));
  int skipped = 0;  // of a level that lasts
  for (int i = 0; i < 20; ++i) {
    const auto verdict = watch.see(9, 1);
    skipped += !verdict.accept;
    if (i == 0) {
      EXPECT_THAT(verdict.reason, HasSubstr("loss 9"));
    }
  }
  EXPECT_GE(skipped, 2);
  EXPECT_LE(skipped, 5);  // sqrt((1 - p) / p) < 6 from p = 4 / 128 on
  EXPECT_TRUE(watch.see(9, 1).accept);
}

// Whatever is skipped must not make what follows look unusual.
TEST(LossWatch, SkippingDoesNotFeedOnItself) {
  LossWatch watch({.spike_z = 1});
  std::int64_t skipped_late = 0;
  for (int i = 0; i < 2000; ++i) {
    const double noise = 2 * uniform01(stream_key(1234, "loss"), i) - 1;
    const bool accepted = watch.see(5 + noise, 1).accept;
    if (i >= 1500) skipped_late += !accepted;
  }
  // Of evenly spread noise 21 % lies above one deviation.
  EXPECT_NEAR(static_cast<double>(skipped_late) / 500, 0.21, 0.06);
}

TEST(LossWatch, SpikesPassWhereNobodyAskedToStopThem) {
  LossWatch watch({.window = 4});
  for (int i = 0; i < 10; ++i) watch.see(2 + 0.1 * (i % 2), 1);
  EXPECT_TRUE(watch.see(1e6, 1).accept);
}

// The sliding sums against the plain definition, over values far from zero.
TEST(LossWatch, ZIsTheDistanceFromTheWindowsMean) {
  constexpr std::int64_t kWindow = 16;
  LossWatch watch({.window = kWindow});
  std::vector<double> seen;
  for (int i = 0; i < 200; ++i) {
    const double loss = 1e6 + std::sin(i * 1.7) + 0.01 * i;
    const double z = watch.see(loss, 1).loss_z;
    if (static_cast<std::int64_t>(seen.size()) >= kWindow) {
      double mean = 0, variance = 0;
      for (auto v = seen.end() - kWindow; v != seen.end(); ++v) mean += *v;
      mean /= kWindow;
      for (auto v = seen.end() - kWindow; v != seen.end(); ++v) {
        variance += (*v - mean) * (*v - mean) / kWindow;
      }
      EXPECT_NEAR(z, (loss - mean) / std::sqrt(variance), 1e-6) << i;
    } else {
      EXPECT_EQ(z, 0) << i;
    }
    seen.push_back(loss);
  }
}

TEST(LossWatch, RefusesOptionsThatMakeNoSense) {
  EXPECT_THROW(LossWatch({.spike_z = -1}), UsageError);
  EXPECT_THROW(LossWatch({.spike_z = kNan}), UsageError);
  EXPECT_THROW(LossWatch({.window = 1}), UsageError);
  EXPECT_THROW(LossWatch({.give_up_after = 0}), UsageError);
}

TEST(SquaredSum, IsExactWhereDoublesAreAndKeepsWhatIsNoNumber) {
  for (const std::size_t n : {0u, 1u, 15u, 16u, 17u, 1000u}) {
    std::vector<float> values(n);
    double expected = 0;
    for (std::size_t i = 0; i < n; ++i) {
      values[i] = static_cast<float>(i % 101) - 50;
      expected += static_cast<double>(values[i]) * values[i];
    }
    EXPECT_EQ(squared_sum(values), expected) << n;
  }
  // In float, the square of this would be infinite.
  EXPECT_DOUBLE_EQ(squared_sum(std::vector<float>{1e30f}),
                   static_cast<double>(1e30f) * 1e30f);
  EXPECT_TRUE(std::isnan(squared_sum(
      std::vector<float>{1, std::numeric_limits<float>::quiet_NaN()})));
}

}  // namespace
}  // namespace dai::intro
