// SPDX-License-Identifier: Apache-2.0
#pragma once

// The alpha-beta model (Hockney, 1994): a message of n bytes takes
// alpha + beta n. An algorithm of `steps` messages that carries `volume` times
// the data takes
//
//   seconds = steps * alpha + volume * bytes * beta
//
// and one alpha and one beta, fitted to measurements of one algorithm on one
// medium, predict it at other sizes and other numbers of ranks. Caches bend the
// line: so there is one for each class of sizes.
//
//   const AlphaBeta line = fit_alpha_beta(samples);   // of one size class
//   line.seconds(cost, bytes)

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "ch02_hardware/model/algorithm_cost.h"

namespace dai::hardware {

struct AlphaBeta {
  double alpha_s = 0;          // a step
  double beta_s_per_byte = 0;  // of volume
  double seconds(const AlgorithmCost& cost, double bytes) const {
    return cost.steps * alpha_s + cost.volume * bytes * beta_s_per_byte;
  }
};

struct CostSample {
  AlgorithmCost cost;
  double bytes = 0;
  double seconds = 0;
};

// Least squares of the relative error; neither number is below 0. Throws
// std::invalid_argument without samples.
AlphaBeta fit_alpha_beta(std::span<const CostSample> samples);

// Size classes by bytes: up to 32 KiB (a first-level cache), up to 2 MiB (a
// second-level one), up to 8 MiB (several such buffers in a third-level one),
// beyond.
inline constexpr int kSizeClasses = 4;
int size_class(double bytes);

// The measured behaviour of one algorithm on one medium.
struct AlgorithmModel {
  Collective what = Collective::kAllReduce;
  std::string algorithm;
  std::string medium;
  std::array<AlphaBeta, kSizeClasses> lines;

  double seconds(double bytes, int ranks) const {
    return lines[size_class(bytes)].seconds(cost_of(what, algorithm, ranks),
                                            bytes);
  }
};

// Fits each size class to its own samples; one with less than two sizes takes
// the nearest others along.
AlgorithmModel fit_model(Collective what, const std::string& algorithm,
                         const std::string& medium,
                         std::span<const CostSample> samples);

// All that is known. A file of it is written by ch02_collective_explorer
// --fit, and read by --collective-model; the one measured by this repository's
// machine is built in. Throws UsageError for a file that is none.
struct CollectiveModel {
  std::vector<AlgorithmModel> algorithms;
  const AlgorithmModel* find(Collective what, const std::string& algorithm,
                             const std::string& medium) const;
  std::string to_json() const;
  static CollectiveModel from_json(const std::string& text,
                                   const std::string& where);
  // UsageError, too, for a file that cannot be read or has no end.
  static CollectiveModel from_file(const std::string& path);
  static const CollectiveModel& built_in();
};

}  // namespace dai::hardware
