// SPDX-License-Identifier: Apache-2.0
#pragma once

// Finds bucket sizes for a model, a wire and a backward that have been
// measured:
//
//   candidates   all sizes on a grid, by what the forecast says of each
//                (overlap_forecast.h)
//   a trial      the best few against PyTorch's default of 1 and 25 MiB, in
//                turns step by step
//   the choice   the fastest that is faster than the default beyond noise, the
//                95 % interval of paired steps; else the default
//
//   const BucketForecaster forecaster{...};           // all four as measured
//   const auto candidates = forecaster.best(3);
//   const auto choice = choose_trial(default_ms, {trial_a_ms, trial_b_ms});
//
// So what is chosen is slower than the default only where the trial lied, and
// whoever uses it can run the two against each other once more, as the app
// does.

#include <optional>
#include <vector>

#include "ch03_ddp/tuning/all_reduce_fit.h"
#include "ch03_ddp/tuning/overlap_forecast.h"

namespace dai::ddp {

struct BucketCandidate {
  BucketCaps caps;
  std::size_t buckets = 0;
  OverlapForecast forecast;
};

struct BucketForecaster {
  std::vector<NamedParameter> parameters;
  BackwardTimetable timetable = {};
  AllReduceFit fit = {};
  double handling_ms_per_mb = 0;  // packing and averaging, beside the wire
  double contention = 0;          // overlap_forecast.h

  // Of one bucket: wire and handling.
  double milliseconds(double bytes) const {
    return fit.milliseconds(bytes) + handling_ms_per_mb * bytes / 1e6;
  }
  BucketPlan plan(const BucketCaps& caps) const;
  BucketCandidate at(const BucketCaps& caps) const;
  // The `count` best of the grid: powers of two from 64 KiB to the size of the
  // model, and for each the best first bucket of that size or smaller. Each is
  // another plan than the default's and than the others'; by the end of
  // backward and wire, then by fewer buckets.
  std::vector<BucketCandidate> best(std::size_t count) const;
};

// Which trial, by index; none: stay with the default. [steps] each, taken in
// turns.
std::optional<std::size_t> choose_trial(
    const std::vector<double>& default_ms,
    const std::vector<std::vector<double>>& trials_ms);

}  // namespace dai::ddp
