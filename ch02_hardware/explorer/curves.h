// SPDX-License-Identifier: Apache-2.0
#pragma once

// Measured times against the alpha-beta model's, for each algorithm of a
// collective, and the sizes at which another one becomes the fastest.
//
//   const Curves curves = measure_curves(communicator, Collective::kAllReduce,
//                                        sizes, rounds);
//   crossovers(curves.fastest)       // "up to 16 KiB one_shot, then ring"
//
// The model is fitted to every other size and tried on the rest: the error on
// sizes it has not seen is what it is worth.

#include <string>
#include <vector>

#include "ch02_hardware/model/alpha_beta.h"
#include "ch02_hardware/model/communicator.h"

namespace dai::hardware {

struct CurvePoint {
  double bytes = 0, measured_s = 0, predicted_s = 0;
  bool held_out = false;  // not seen by the fit
};
struct Curve {
  std::string algorithm;
  std::vector<CurvePoint> points;
  // Median of |predicted / measured - 1|; infinite where nothing was held out.
  double held_out_error = 0;
  AlgorithmModel model;  // fitted to all points
};
struct Curves {
  Collective what = Collective::kAllReduce;
  std::string medium;
  int ranks = 0;
  std::vector<Curve> curves;
};

struct Crossover {
  double from_bytes = 0;
  std::string algorithm;  // the fastest from there on
};

struct CurveOptions {
  std::vector<double> sizes;  // bytes as nccl-tests counts, ascending
  int rounds = 20;            // for the smallest; fewer for large ones
  int repeats = 5;            // the median of them counts
  bool naive = false;         // naive algorithms, too
};

// Collective; the same numbers on all ranks.
Curves measure_curves(Communicator& group, Collective what,
                      const CurveOptions& options);
// Fits and predicts; what measure_curves() does with its numbers. Separate, so
// that recorded numbers can be judged. measured: [sizes] of seconds.
Curve fit_curve(Collective what, const std::string& algorithm,
                const std::string& medium, int ranks,
                const std::vector<double>& bytes,
                const std::vector<double>& measured_s);

std::vector<Crossover> measured_crossovers(const Curves& curves);
std::vector<Crossover> predicted_crossovers(const Curves& curves);

}  // namespace dai::hardware
