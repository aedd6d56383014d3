// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/roofline/matmul_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "common/timer.h"

namespace dai::intro {
namespace {

// A trial costs about this many products: warm-up and three repetitions.
constexpr double kProductsATrial = 4;

class Search {
 public:
  Search(const MatmulSearch& search, const TimedMatmul& timed, Clock now)
      : search_(search), timed_(timed), now_(std::move(now)), begin_(now_()) {}

  MatmulPeak run() {
    grid();
    refine();
    return std::move(peak_);
  }

 private:
  double left(double share) const {
    return share * search_.seconds - (now_() - begin_);
  }

  // Would the shape end before `share` of the time is up, at the best rate
  // seen so far?
  bool affordable(const MatmulShape& shape, double share) const {
    if (peak_.tried.empty()) return true;
    const double one = shape.flops() / peak_.best.flop_per_s();
    return kProductsATrial * one < left(share);
  }

  bool is_known(const MatmulShape& shape) const {
    return std::any_of(
        peak_.tried.begin(), peak_.tried.end(),
        [&](const MatmulTrial& trial) { return trial.shape == shape; });
  }

  // True when it beat all before it.
  bool attempt(const MatmulShape& shape, bool refined) {
    std::vector<double> seconds = timed_(shape, search_.seconds / 50);
    if (seconds.empty()) {
      throw std::invalid_argument("search_matmul_peak: nothing was timed");
    }
    std::sort(seconds.begin(), seconds.end());
    if (!(seconds.front() > 0) || !std::isfinite(seconds.back())) {
      throw std::invalid_argument(
          "search_matmul_peak: a product took no time at all");
    }
    const MatmulTrial trial{.shape = shape,
                            .best_seconds = seconds.front(),
                            .median_seconds = seconds[seconds.size() / 2],
                            .repetitions = static_cast<int>(seconds.size()),
                            .refined = refined};
    const bool better =
        peak_.tried.empty() || trial.flop_per_s() > peak_.best.flop_per_s();
    if (better) peak_.best = trial;
    peak_.tried.push_back(trial);
    return better;
  }

  void grid() {
    std::vector<std::int64_t> sizes;
    for (std::int64_t size = search_.smallest; size <= search_.largest;
         size *= 2) {
      sizes.push_back(size);
    }
    std::vector<MatmulShape> shapes;
    for (const std::int64_t m : sizes) {
      for (const std::int64_t n : sizes) {
        for (const std::int64_t k : sizes) shapes.push_back({m, n, k});
      }
    }
    // The cheap ones first: if time runs out, only the expensive are missing.
    std::stable_sort(shapes.begin(), shapes.end(),
                     [](const MatmulShape& a, const MatmulShape& b) {
                       return a.flops() < b.flops();
                     });
    for (const MatmulShape& shape : shapes) {
      if (affordable(shape, search_.grid_share)) {
        attempt(shape, false);
      } else {
        ++peak_.skipped;
      }
    }
  }

  // One axis at a time, half of its size up or down, then a quarter, ...
  void refine() {
    for (std::int64_t part = 2;; part *= 2) {
      bool moved = true, possible = false;
      while (moved) {
        moved = false;
        for (std::int64_t MatmulShape::* axis :
             {&MatmulShape::m, &MatmulShape::n, &MatmulShape::k}) {
          for (const int sign : {1, -1}) {
            MatmulShape next = peak_.best.shape;
            const std::int64_t step = next.*axis / part;
            possible |= step >= search_.step;
            next.*axis = round_to_step(next.*axis + sign * step);
            if (is_known(next)) continue;
            if (!affordable(next, 1)) continue;
            moved |= attempt(next, true);
          }
        }
      }
      if (!possible || left(1) <= 0) return;
    }
  }

  std::int64_t round_to_step(std::int64_t size) const {
    const std::int64_t rounded =
        (size + search_.step / 2) / search_.step * search_.step;
    return std::clamp(rounded, search_.smallest, search_.largest);
  }

  const MatmulSearch& search_;
  const TimedMatmul& timed_;
  const Clock now_;
  const double begin_;
  MatmulPeak peak_;
};

}  // namespace

std::string MatmulShape::to_string() const {
  return fmt::format("{} x {} x {}", m, n, k);
}

MatmulPeak search_matmul_peak(const MatmulSearch& search,
                              const TimedMatmul& timed, const Clock& now) {
  if (search.smallest < 1 || search.largest < search.smallest ||
      search.step < 1 || !(search.seconds > 0) ||
      !std::isfinite(search.seconds) || !(search.grid_share > 0)) {
    throw std::invalid_argument(fmt::format(
        "search_matmul_peak: sizes {} to {} in steps of {} within {} s",
        search.smallest, search.largest, search.step, search.seconds));
  }
  return Search(
             search, timed, now ? now : [] { return steady_us() / 1e6; })
      .run();
}

}  // namespace dai::intro
