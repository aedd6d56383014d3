// SPDX-License-Identifier: Apache-2.0
#pragma once

// The statistics behind every measured number of the book. Times on a shared
// machine have a long right tail, so the middle is a median and the spread a
// MAD, and a comparison is made of pairs taken alternately, whose interval
// says how far the result can be trusted.
//
//   Summary s = summarize(step_ms);          // s.median, s.p99, ...
//   PairedRatio r = paired_ratio(ours_ms, theirs_ms);
//   if (r.low > 1) ...                       // ours is faster, and surely so
//
// All functions throw std::invalid_argument for empty input and for values
// that are not finite; order never matters, except in paired_ratio, where
// ours[i] and theirs[i] were measured side by side.

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace dai::intro {

// Linear interpolation between order statistics (NumPy's default, Hyndman and
// Fan's type 7). percent in [0, 100].
double percentile(std::span<const double> values, double percent);
double median(std::span<const double> values);

// Median of |value - median|. Times 1.4826 it estimates the deviation of a
// normal distribution, and half of the values may be garbage without harm.
double median_absolute_deviation(std::span<const double> values);
inline constexpr double kMadToDeviation = 1.482602218505602;

struct Summary {
  std::int64_t count = 0;
  double mean = 0;
  double deviation = 0;  // of the sample, n - 1; 0 for a single value
  double min = 0, median = 0, p90 = 0, p99 = 0, max = 0;
  double mad = 0;
};
Summary summarize(std::span<const double> values);

struct Interval {
  double low = 0, high = 0;
};

// Percentile bootstrap (Efron: Bootstrap methods, 1979): the statistic of
// `resamples` samples drawn with replacement, of which the middle `confidence`
// is kept. The draws come from counter_random.h, so the interval is the same
// on every machine. Of few values (below about twenty) it is
// narrower than it claims.
Interval bootstrap_interval(
    std::span<const double> values,
    const std::function<double(std::span<const double>)>& statistic,
    double confidence = 0.95, int resamples = 2000, std::uint64_t seed = 1234);

// ratio = median(theirs) / median(ours): above 1 ours is better where less is
// better. The interval resamples pairs, so that what slowed both members of a
// pair cancels.
struct PairedRatio {
  double ratio = 0;
  double low = 0, high = 0;  // 95 %
  std::int64_t samples = 0;
  // Fewer pairs than this are shown, and not called a result.
  bool is_result() const { return samples >= 7; }
};
// Throws std::invalid_argument for unequal lengths and values that are not
// positive as well.
PairedRatio paired_ratio(std::span<const double> ours,
                         std::span<const double> theirs,
                         std::uint64_t seed = 1234);

}  // namespace dai::intro
