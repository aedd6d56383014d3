// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/roofline/matmul_peak.h"

#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>

#include "ch01_intro/roofline/device_timer.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

TEST(MatmulPeak, IsTheBestOfWhatWasTriedForEachDtype) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const MatmulPeak peak = achievable_matmul_peak(
        {.dtype = dtype,
         .search = {
             .smallest = 32, .largest = 128, .step = 16, .seconds = 0.1}});
    ASSERT_FALSE(peak.tried.empty());
    EXPECT_TRUE(std::isfinite(peak.best.flop_per_s()));
    for (const MatmulTrial& trial : peak.tried) {
      EXPECT_LE(trial.flop_per_s(), peak.best.flop_per_s());
      EXPECT_GE(trial.median_seconds, trial.best_seconds);
      EXPECT_GE(trial.repetitions, 3);
    }
  }
}

TEST(MatmulPeak, RefusesOtherDtypesAndShapesAboveThePool) {
  EXPECT_THROW(MatmulPool(at::kCPU, at::kLong, 16), UsageError);
  MatmulPool pool(at::kCPU, at::kFloat, 16);
  EXPECT_EQ(pool.timed({4, 4, 4}, 0, 5).size(), 5U);
  EXPECT_THROW(pool.timed({4, 4, 5}, 0), std::invalid_argument);
  EXPECT_THROW(pool.timed({4, 0, 4}, 0), std::invalid_argument);
}

TEST(DeviceTimer, CallsOnceMoreThanItCounts) {
  int calls = 0;
  const auto times = repeat_timed(at::kCPU, [&] { ++calls; }, 0, 7);
  EXPECT_EQ(times.size(), 7U);
  EXPECT_EQ(calls, 8);
  EXPECT_EQ(repeat_timed(at::kCPU, [] {}, 10, 3, 50).size(), 50U);
}

}  // namespace
}  // namespace dai::intro
