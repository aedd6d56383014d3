// SPDX-License-Identifier: Apache-2.0
#pragma once

// The experiment of chapter 1: train the same model twice, first on rank 0
// alone, then on all ranks, and lay the two side by side. If the two curves
// agree, the N processes are one computation; if they do not, something in
// between is broken, however well the loss may fall.
//
//   OneAgainstAll both = train_one_against_all(group, train, test, options,
//                                              Reduction::kCanonical);
//   fmt::print("{}", both.to_string());
//
// Every rank calls it and gets the same numbers. With a group of one rank the
// second run repeats the first: then it shows that runs are repeatable.

#include <string>
#include <utility>
#include <vector>

#include "ch01_intro/first_training.h"
#include "ch01_intro/scaling_breakdown.h"

namespace dai::intro {

enum class Reduction { kCanonical, kAllReduce };

struct OneAgainstAll {
  int ranks = 1;
  std::vector<float> one_rank_loss;   // [steps]
  std::vector<float> all_ranks_loss;  // [steps]
  double one_rank_accuracy = 0;       // on the test split, 0 to 1
  double all_ranks_accuracy = 0;

  // Infinite where a number is NaN.
  double max_loss_difference = 0;
  double max_parameter_difference = 0;
  // Bits of the final parameters, the largest count of any rank.
  std::int64_t bits_off_one_rank = 0;  // against the model trained alone
  std::int64_t bits_off_rank0 = 0;     // against rank 0's after the same run

  ScalingBreakdown scaling;
  std::int64_t samples_per_step = 0;
  double startup_ms = 0;  // process start to the end of rank 0's first step

  double last_to_first_loss() const;  // of all ranks; NaN stays NaN
  // Both curves at a few steps, what they reach, and where the time went.
  std::string to_string() const;
  // The numbers of to_string() under flat names that end in their unit.
  std::vector<std::pair<std::string, double>> metrics() const;
};

// How equal the two runs have to be, and why no more can be asked.
struct Promise {
  double tolerance = 0;  // of losses and parameters
  std::string reason;    // a sentence or two for people
};
Promise what_holds(Reduction reduction, at::Device device);

// `trace` receives this rank's spans of the second run. Throws UsageError when
// the microbatches cannot be shared evenly.
OneAgainstAll train_one_against_all(ProcessGroup& group,
                                    const FashionMnist& train,
                                    const FashionMnist& test,
                                    const FirstTrainingOptions& options,
                                    Reduction reduction,
                                    Trace* trace = nullptr);

}  // namespace dai::intro
