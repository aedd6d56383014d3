// SPDX-License-Identifier: Apache-2.0
#pragma once

// What an all_reduce costs on this group, whatever its backend: measured at
// some sizes, fitted with chapter 2's alpha-beta model
// (ch02_hardware/model/alpha_beta.h) and judged at sizes that the fit has not
// seen.
//
//   const AllReduceFit fit = fit_all_reduce(group, /*largest_bytes=*/1 << 25);
//   fit.milliseconds(4 << 20)
//
// The model's steps and volume are those of a ring, which is what Gloo does and
// what the other backends do with large messages; another algorithm has other
// alphas and betas, and the fit finds those. Collective; rank 0's times hold on
// all ranks.

#include <cstdint>
#include <string>
#include <vector>

#include "ch02_hardware/model/alpha_beta.h"

namespace dai {
class ProcessGroup;
}

namespace dai::ddp {

struct AllReduceFit {
  int ranks = 1;
  hardware::AlgorithmModel model = {};
  struct Point {
    double bytes = 0, measured_ms = 0, model_ms = 0;
    bool fitted = false;  // else the model has not seen it
  };
  std::vector<Point> points = {};  // by size

  double milliseconds(double bytes) const {
    return 1e3 * model.seconds(bytes, ranks);
  }
  // Median of |model / measured - 1| over the sizes not fitted.
  double unseen_error() const;
  std::string to_string() const;
};

// Sizes: powers of two from 4 KiB to the first that is at least
// `largest_bytes`, every other one fitted. float32, `repeats` times each, of
// which the lower quartile counts: the wire with nobody else on the cores.
AllReduceFit fit_all_reduce(ProcessGroup& group, std::int64_t largest_bytes,
                            int repeats = 15);

}  // namespace dai::ddp
