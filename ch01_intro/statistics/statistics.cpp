// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/statistics/statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "ch01_intro/counter_random.h"

namespace dai::intro {
namespace {

void require_numbers(std::span<const double> values, const char* what) {
  if (values.empty()) {
    throw std::invalid_argument(fmt::format("{} of no values", what));
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    throw std::invalid_argument(
        fmt::format("{}: value {} is {}", what, i, values[i]));
  }
}

std::vector<double> sorted(std::span<const double> values) {
  std::vector<double> copy(values.begin(), values.end());
  std::sort(copy.begin(), copy.end());
  return copy;
}

double percentile_of_sorted(const std::vector<double>& values, double percent) {
  const double place = percent / 100 * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  if (below + 1 >= values.size()) return values.back();
  const double part = place - static_cast<double>(below);
  return values[below] + part * (values[below + 1] - values[below]);
}

// Which of n values draw number `draw` of resample number `resample` takes.
// The upper half of a 64 x 64 bit product is uniform on [0, n) up to n / 2^64.
std::size_t pick(std::uint64_t key, std::uint64_t resample, std::uint64_t draw,
                 std::size_t n) {
  const std::uint64_t random = mix64(key ^ mix64((resample << 32) + draw));
  return static_cast<std::size_t>(
      (static_cast<unsigned __int128>(random) * n) >> 64);
}

Interval middle(std::vector<double> statistics, double confidence) {
  std::sort(statistics.begin(), statistics.end());
  const double tail = 50 * (1 - confidence);
  return {percentile_of_sorted(statistics, tail),
          percentile_of_sorted(statistics, 100 - tail)};
}

}  // namespace

double percentile(std::span<const double> values, double percent) {
  require_numbers(values, "percentile");
  if (!(percent >= 0 && percent <= 100)) {
    throw std::invalid_argument(
        fmt::format("percentile {} is outside 0 to 100", percent));
  }
  return percentile_of_sorted(sorted(values), percent);
}

double median(std::span<const double> values) {
  return percentile(values, 50);
}

double median_absolute_deviation(std::span<const double> values) {
  const double center = median(values);
  std::vector<double> distances;
  distances.reserve(values.size());
  for (const double value : values) {
    distances.push_back(std::abs(value - center));
  }
  return median(distances);
}

Summary summarize(std::span<const double> values) {
  require_numbers(values, "summary");
  const std::vector<double> order = sorted(values);
  Summary s;
  s.count = static_cast<std::int64_t>(order.size());
  for (const double value : order) s.mean += value;
  s.mean /= static_cast<double>(s.count);
  double squares = 0;  // a second pass: no cancellation of large squares
  for (const double value : order) {
    squares += (value - s.mean) * (value - s.mean);
  }
  if (s.count > 1) {
    s.deviation = std::sqrt(squares / static_cast<double>(s.count - 1));
  }
  s.min = order.front();
  s.median = percentile_of_sorted(order, 50);
  s.p90 = percentile_of_sorted(order, 90);
  s.p99 = percentile_of_sorted(order, 99);
  s.max = order.back();
  s.mad = median_absolute_deviation(values);
  return s;
}

Interval bootstrap_interval(
    std::span<const double> values,
    const std::function<double(std::span<const double>)>& statistic,
    double confidence, int resamples, std::uint64_t seed) {
  require_numbers(values, "bootstrap");
  if (!(confidence > 0 && confidence < 1) || resamples < 100) {
    throw std::invalid_argument(
        fmt::format("bootstrap: confidence {} and {} resamples; between 0 and "
                    "1, and at least 100, are expected",
                    confidence, resamples));
  }
  // Sorted, so that the order of the measurements does not matter.
  const std::vector<double> order = sorted(values);
  const std::uint64_t key = stream_key(seed, "bootstrap");
  std::vector<double> sample(order.size()), statistics;
  for (int r = 0; r < resamples; ++r) {
    for (std::size_t i = 0; i < sample.size(); ++i) {
      sample[i] = order[pick(key, r, i, order.size())];
    }
    statistics.push_back(statistic(sample));
  }
  return middle(std::move(statistics), confidence);
}

PairedRatio paired_ratio(std::span<const double> ours,
                         std::span<const double> theirs, std::uint64_t seed) {
  constexpr int kResamples = 2000;
  require_numbers(ours, "paired ratio");
  require_numbers(theirs, "paired ratio");
  if (ours.size() != theirs.size()) {
    throw std::invalid_argument(fmt::format(
        "paired ratio: {} values against {}", ours.size(), theirs.size()));
  }
  const auto is_positive = [](double value) { return value > 0; };
  if (!std::all_of(ours.begin(), ours.end(), is_positive) ||
      !std::all_of(theirs.begin(), theirs.end(), is_positive)) {
    throw std::invalid_argument("paired ratio: a value is not positive");
  }
  const std::size_t n = ours.size();
  const std::uint64_t key = stream_key(seed, "paired ratio");
  std::vector<double> a(n), b(n), ratios;
  for (int r = 0; r < kResamples; ++r) {
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t pair = pick(key, r, i, n);
      a[i] = ours[pair];
      b[i] = theirs[pair];
    }
    ratios.push_back(median(b) / median(a));
  }
  const Interval interval = middle(std::move(ratios), 0.95);
  return {.ratio = median(theirs) / median(ours),
          .low = interval.low,
          .high = interval.high,
          .samples = static_cast<std::int64_t>(n)};
}

}  // namespace dai::intro
