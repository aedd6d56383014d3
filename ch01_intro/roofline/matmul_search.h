// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which matrix product runs fastest on a machine? A search over m, n and k of
// [m, k] x [k, n]: first a grid of powers of two, smallest products first,
// then ever smaller steps along one axis at a time from the best of them,
// until the time is up. (The idea is that of ml-engineering's mamf-finder,
// "maximum achievable matmul FLOPS".)
//
//   MatmulPeak peak = search_matmul_peak({.seconds = 2}, timed_matmul);
//   peak.best.flop_per_s();      // achievable, not theoretical
//   peak.tried;                  // and how it was found
//
// The result is what a library reached here and today: below what the data
// sheet promises, and a roof that real layers can come close to.
// A trial counts by its fastest repetition: interruptions only slow down.
// Torch-free; matmul_peak.h brings the product.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace dai::intro {

struct MatmulShape {
  std::int64_t m = 0, n = 0, k = 0;

  // One multiply-add is two operations.
  double flops() const {
    return 2.0 * static_cast<double>(m) * static_cast<double>(n) *
           static_cast<double>(k);
  }
  std::string to_string() const;  // "1024 x 512 x 2048" (m x n x k)
  bool operator==(const MatmulShape&) const = default;
};

struct MatmulTrial {
  MatmulShape shape;
  double best_seconds = 0, median_seconds = 0;
  int repetitions = 0;
  bool refined = false;  // found by a step from the grid's best

  double flop_per_s() const { return shape.flops() / best_seconds; }
  double median_flop_per_s() const { return shape.flops() / median_seconds; }
};

struct MatmulSearch {
  std::int64_t smallest = 256, largest = 2048;  // of each axis
  std::int64_t step = 64;  // refined sizes are multiples of this
  double seconds = 2;      // for everything; at least one shape is tried
  double grid_share = 0.6;
};

struct MatmulPeak {
  MatmulTrial best;
  std::vector<MatmulTrial> tried;  // in the order of the search
  std::int64_t skipped = 0;        // grid shapes the time did not allow
};

// Multiplies matrices of this shape again and again for about `seconds`, and
// returns the seconds of each repetition, warm-up left out.
using TimedMatmul =
    std::function<std::vector<double>(const MatmulShape&, double seconds)>;
using Clock = std::function<double()>;  // seconds, only forward

// Throws std::invalid_argument for sizes below 1, smallest > largest, a budget
// that is not positive, and for a timed product without repetitions.
// Without a clock, the steady one.
MatmulPeak search_matmul_peak(const MatmulSearch& search,
                              const TimedMatmul& timed, const Clock& now = {});

}  // namespace dai::intro
