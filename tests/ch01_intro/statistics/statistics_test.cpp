// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/statistics/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "ch01_intro/counter_random.h"

namespace dai::intro {
namespace {

using Values = std::vector<double>;
const Values kValues = {3.5, 1.25, 9, 2, 7.75, 4, 100, 2.5, 6, 5.5};

// A roughly normal number: twelve uniforms have variance 1.
double noise(std::uint64_t key, std::uint64_t i) {
  double sum = -6;
  for (std::uint64_t k = 0; k < 12; ++k) sum += uniform01(key, 12 * i + k);
  return sum;
}

// Made by numpy.percentile, .std(ddof=1), .mean and .median of |v - median|.
TEST(Statistics, AgreeWithNumPy) {
  const double percents[] = {0, 10, 25, 50, 90, 99, 100};
  const double expected[] = {1.25, 1.925, 2.75, 4.75, 18.1, 91.81, 100};
  for (int i = 0; i < 7; ++i) {
    EXPECT_NEAR(percentile(kValues, percents[i]), expected[i], 1e-12);
  }
  const Summary s = summarize(kValues);
  EXPECT_EQ(s.count, 10);
  EXPECT_NEAR(s.mean, 14.15, 1e-12);
  EXPECT_NEAR(s.deviation, 30.26760277553836, 1e-12);
  EXPECT_EQ(s.median, 4.75);
  EXPECT_EQ(s.mad, 2.5);
  EXPECT_EQ(s.min, 1.25);
  EXPECT_EQ(s.max, 100);
  EXPECT_NEAR(s.p99, 91.81, 1e-12);
}

TEST(Statistics, OneValueIsItsOwnEverything) {
  const Summary s = summarize(Values{3});
  EXPECT_EQ(s.median, 3);
  EXPECT_EQ(s.p99, 3);
  EXPECT_EQ(s.deviation, 0);
  EXPECT_EQ(s.mad, 0);
}

TEST(Statistics, OrderDoesNotMatter) {
  Values other = kValues;
  std::reverse(other.begin(), other.end());
  EXPECT_EQ(percentile(kValues, 37), percentile(other, 37));
  const auto a = bootstrap_interval(kValues, median);
  const auto b = bootstrap_interval(other, median);
  EXPECT_EQ(a.low, b.low);
  EXPECT_EQ(a.high, b.high);
}

TEST(Statistics, HalfOfTheValuesMayBeGarbage) {
  Values values(11, 5);
  for (int i = 0; i < 5; ++i) values[i] = 1e300;
  EXPECT_EQ(median(values), 5);
  EXPECT_EQ(median_absolute_deviation(values), 0);
}

TEST(Statistics, MadTimesItsFactorIsTheDeviation) {
  Values values;
  for (int i = 0; i < 20000; ++i) {
    values.push_back(10 + 3 * noise(stream_key(1, "mad"), i));
  }
  EXPECT_NEAR(kMadToDeviation * median_absolute_deviation(values), 3, 0.1);
}

// 300 samples of known median: about 95 % of the intervals must hold it.
TEST(Bootstrap, TheIntervalHoldsTheTruthAsOftenAsItSays) {
  int holds = 0;
  for (std::uint64_t trial = 0; trial < 300; ++trial) {
    Values values;
    const std::uint64_t key = stream_key(trial, "coverage");
    for (int i = 0; i < 30; ++i) values.push_back(7 + noise(key, i));
    const auto mean = [](std::span<const double> v) {
      double sum = 0;
      for (const double x : v) sum += x;
      return sum / static_cast<double>(v.size());
    };
    const Interval interval =
        bootstrap_interval(values, mean, 0.95, 500, trial);
    holds += interval.low <= 7 && 7 <= interval.high;
  }
  EXPECT_GE(holds, 270);
  EXPECT_LE(holds, 297);
}

TEST(Bootstrap, IsNarrowerWhereTheValuesAre) {
  Values narrow, wide;
  for (int i = 0; i < 40; ++i) {
    narrow.push_back(5 + 0.1 * noise(1, i));
    wide.push_back(5 + noise(1, i));
  }
  const Interval n = bootstrap_interval(narrow, median);
  const Interval w = bootstrap_interval(wide, median);
  EXPECT_LT(n.high - n.low, 0.2 * (w.high - w.low));
}

// Both members of a pair share a slowdown of up to 5; ours takes 10 % less.
TEST(PairedRatio, WhatSlowsAPairCancels) {
  Values ours, theirs;
  for (std::uint64_t i = 0; i < 15; ++i) {
    const double load = 1 + 4.0 * uniform01(stream_key(3, "load"), i);
    ours.push_back(load * 0.9);
    theirs.push_back(load);
  }
  const PairedRatio r = paired_ratio(ours, theirs);
  EXPECT_NEAR(r.ratio, 1 / 0.9, 1e-12);
  EXPECT_NEAR(r.low, 1 / 0.9, 1e-12);
  EXPECT_NEAR(r.high, 1 / 0.9, 1e-12);
  EXPECT_TRUE(r.is_result());
  // Out of step, the load no longer cancels and the interval says so.
  std::rotate(ours.begin(), ours.begin() + 4, ours.end());
  const PairedRatio shuffled = paired_ratio(ours, theirs);
  EXPECT_LT(shuffled.low, 1);
  EXPECT_GT(shuffled.high, 1.1);
}

TEST(PairedRatio, SwappingTheSidesInvertsIt) {
  const Values a = {1, 2, 3, 4, 5, 6, 7}, b = {2, 3, 3, 5, 8, 6, 9};
  const PairedRatio forth = paired_ratio(a, b), back = paired_ratio(b, a);
  EXPECT_DOUBLE_EQ(forth.ratio, 1 / back.ratio);
  EXPECT_NEAR(forth.low, 1 / back.high, 0.02);
  EXPECT_LE(forth.low, forth.ratio);
  EXPECT_GE(forth.high, forth.ratio);
}

TEST(PairedRatio, FewPairsAreNoResult) {
  EXPECT_FALSE(paired_ratio(Values(6, 1), Values(6, 2)).is_result());
  EXPECT_TRUE(paired_ratio(Values(7, 1), Values(7, 2)).is_result());
}

TEST(Statistics, RefuseWhatIsNoMeasurement) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(median({}), std::invalid_argument);
  EXPECT_THROW(summarize(Values{1, nan}), std::invalid_argument);
  EXPECT_THROW(percentile(kValues, 101), std::invalid_argument);
  EXPECT_THROW(percentile(kValues, nan), std::invalid_argument);
  EXPECT_THROW(bootstrap_interval({}, median), std::invalid_argument);
  EXPECT_THROW(bootstrap_interval(kValues, median, 1.0), std::invalid_argument);
  EXPECT_THROW(bootstrap_interval(kValues, median, 0.9, 10),
               std::invalid_argument);
  EXPECT_THROW(paired_ratio(Values{1, 2}, Values{1}), std::invalid_argument);
  EXPECT_THROW(paired_ratio(Values{1, 0}, Values{1, 1}), std::invalid_argument);
}

}  // namespace
}  // namespace dai::intro
