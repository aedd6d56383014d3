// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/tuning/bucket_tuner.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "ch01_intro/statistics/statistics.h"

namespace dai::ddp {
namespace {

constexpr std::int64_t kSmallestCap = 64 << 10;

}  // namespace

BucketPlan BucketForecaster::plan(const BucketCaps& caps) const {
  return plan_buckets(parameters, timetable.ready_order(), caps);
}

BucketCandidate BucketForecaster::at(const BucketCaps& caps) const {
  const BucketPlan buckets = plan(caps);
  return {.caps = caps,
          .buckets = buckets.size(),
          .forecast = forecast_overlap(
              buckets, timetable,
              [&](double bytes) { return milliseconds(bytes); }, contention)};
}

std::vector<BucketCandidate> BucketForecaster::best(std::size_t count) const {
  std::int64_t model_bytes = 0;
  for (const std::int64_t bytes : timetable.bytes) model_bytes += bytes;
  const auto better = [](const auto& a, const auto& b) {
    return std::tuple(a.forecast.end_ms, a.buckets) <
           std::tuple(b.forecast.end_ms, b.buckets);
  };
  std::set<BucketPlan> seen{plan(BucketCaps{})};
  std::vector<BucketCandidate> all;
  for (std::int64_t rest = kSmallestCap; rest < 2 * model_bytes; rest *= 2) {
    std::optional<BucketCandidate> best;
    for (std::int64_t first = kSmallestCap; first <= rest; first *= 2) {
      const BucketCaps caps{.first_bytes = first, .bytes = rest};
      if (!seen.insert(plan(caps)).second) continue;
      BucketCandidate candidate = at(caps);
      if (!best || better(candidate, *best)) best = std::move(candidate);
    }
    if (best) all.push_back(*best);
  }
  std::stable_sort(all.begin(), all.end(), better);
  all.resize(std::min(count, all.size()));
  return all;
}

std::optional<std::size_t> choose_trial(
    const std::vector<double>& default_ms,
    const std::vector<std::vector<double>>& trials_ms) {
  std::optional<std::size_t> best;
  double best_ratio = 1;
  for (std::size_t i = 0; i < trials_ms.size(); ++i) {
    const intro::PairedRatio against =
        intro::paired_ratio(trials_ms[i], default_ms);
    if (against.low <= 1 || against.ratio <= best_ratio) continue;
    best = i;
    best_ratio = against.ratio;
  }
  return best;
}

}  // namespace dai::ddp
