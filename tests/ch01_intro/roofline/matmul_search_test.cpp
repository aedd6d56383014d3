// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/roofline/matmul_search.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <stdexcept>
#include <tuple>

namespace dai::intro {
namespace {

// A machine whose clock only its products move. Fastest at one shape: each
// doubling or halving of an axis away from it costs a tenth of the rate.
struct Machine {
  MatmulShape favourite{768, 1024, 512};
  double now = 0;
  int repetitions = 3;

  double rate(const MatmulShape& shape) const {
    const auto away = [](std::int64_t size, std::int64_t best) {
      return std::abs(
          std::log2(static_cast<double>(size) / static_cast<double>(best)));
    };
    return 1e11 * std::pow(0.9, away(shape.m, favourite.m) +
                                    away(shape.n, favourite.n) +
                                    away(shape.k, favourite.k));
  }
  TimedMatmul timed() {
    return [this](const MatmulShape& shape, double) {
      const double one = shape.flops() / rate(shape);
      now += (repetitions + 1) * one;
      std::vector<double> times(repetitions, 2 * one);
      times.back() = one;  // the others were interrupted
      return times;
    };
  }
  Clock clock() {
    return [this] { return now; };
  }
};

TEST(MatmulSearch, FindsAPeakThatLiesBetweenTheGridsPowersOfTwo) {
  Machine machine;
  const MatmulPeak peak =
      search_matmul_peak({.seconds = 1000}, machine.timed(), machine.clock());
  EXPECT_EQ(peak.best.shape, machine.favourite);
  EXPECT_TRUE(peak.best.refined);
  EXPECT_DOUBLE_EQ(peak.best.flop_per_s(), 1e11);
  EXPECT_EQ(peak.skipped, 0);
}

TEST(MatmulSearch, TheFastestRepetitionCountsAndTheMedianIsKept) {
  Machine machine;
  const MatmulPeak peak =
      search_matmul_peak({.seconds = 1000}, machine.timed(), machine.clock());
  EXPECT_DOUBLE_EQ(peak.best.median_seconds, 2 * peak.best.best_seconds);
  EXPECT_EQ(peak.best.repetitions, 3);
}

TEST(MatmulSearch, NoShapeIsTriedTwiceAndAllStayInRange) {
  Machine machine;
  const MatmulPeak peak =
      search_matmul_peak({.smallest = 128, .largest = 1024, .seconds = 1000},
                         machine.timed(), machine.clock());
  std::set<std::tuple<std::int64_t, std::int64_t, std::int64_t>> seen;
  for (const MatmulTrial& trial : peak.tried) {
    const auto [m, n, k] = trial.shape;
    EXPECT_TRUE(seen.insert({m, n, k}).second) << trial.shape.to_string();
    for (const std::int64_t size : {m, n, k}) {
      EXPECT_GE(size, 128);
      EXPECT_LE(size, 1024);
    }
    EXPECT_LE(trial.flop_per_s(), peak.best.flop_per_s());
  }
  EXPECT_GE(seen.size(), 64U);  // the grid alone
}

TEST(MatmulSearch, KeepsItsTimeAndSaysWhatItLeftOut) {
  Machine machine;
  const MatmulPeak peak =
      search_matmul_peak({.seconds = 0.5}, machine.timed(), machine.clock());
  EXPECT_GT(peak.skipped, 0);
  EXPECT_LE(machine.now, 0.5);
  // Less time than one product takes: that one is tried all the same.
  Machine slow;
  EXPECT_EQ(search_matmul_peak({.seconds = 1e-9}, slow.timed(), slow.clock())
                .tried.size(),
            1U);
}

TEST(MatmulSearch, RefusesWhatCannotBeSearched) {
  Machine machine;
  for (const MatmulSearch& search :
       {MatmulSearch{.smallest = 0}, MatmulSearch{.smallest = 9, .largest = 8},
        MatmulSearch{.step = 0}, MatmulSearch{.seconds = 0}}) {
    EXPECT_THROW(search_matmul_peak(search, machine.timed(), machine.clock()),
                 std::invalid_argument);
  }
  const auto nothing = [](const MatmulShape&, double) {
    return std::vector<double>{};
  };
  EXPECT_THROW(search_matmul_peak({}, nothing), std::invalid_argument);
}

}  // namespace
}  // namespace dai::intro
