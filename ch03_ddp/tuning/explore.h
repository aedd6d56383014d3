// SPDX-License-Identifier: Apache-2.0
#pragma once

// What bucket sizes do to a training: backward, wire and what they cost each
// other are measured; each size is forecast from that, then run, all of them in
// turns; then the tuner (bucket_tuner.h) looks for better ones.
//
//   const Exploration found = explore_buckets(group, corpus, options);
//   found.sizes[0]                  // PyTorch's default
//   found.tuned.caps                // what the tuner recommends
//   fmt::print("{}", found.to_string());
//
// All trainings are overlapped_ddp.h's, so that both sizes are free.
// Collective; times are rank 0's, on all ranks.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "ch01_intro/corpus/token_corpus.h"
#include "ch01_intro/statistics/statistics.h"
#include "ch03_ddp/compare/compared_training.h"
#include "ch03_ddp/tuning/bucket_tuner.h"

namespace dai::ddp {

struct ExploreOptions {
  ComparedSizes training;
  std::vector<double> sizes_mb = {};  // the first bucket has the same
  std::size_t trials = 3;             // of the tuner

  void check(int ranks) const;  // throws UsageError
};

struct ExploredSize {
  BucketCandidate candidate;                // as forecast
  StepMedians medians;                      // as measured
  std::int64_t collectives = 0, bytes = 0;  // of a step
  // The largest of any rank:
  std::int64_t bits_off_rank0 = 0;
  double max_parameter_difference = 0;  // from the default's
  double first_gradients_apart = 0;     // likewise, relative
};

struct Exploration {
  int ranks = 1;
  std::int64_t model_bytes = 0;
  BucketForecaster forecaster;
  std::vector<ExploredSize> sizes = {};  // the default is the first
  std::vector<ExploredSize> trials =
      {};  // the tuner's; the default is the first
  BucketCandidate tuned = {};
  bool stays_with_default = true;
  // Of steps run after the choice: default / tuned, above 1 tuned is faster.
  double confirm_default_ms = 0, confirm_tuned_ms = 0;  // medians
  intro::PairedRatio confirmed = {};

  std::string to_string() const;
  std::vector<std::pair<std::string, double>> metrics() const;
  // For scripts/plot.
  nlohmann::ordered_json sweep() const;
};

Exploration explore_buckets(ProcessGroup& group,
                            const intro::TokenCorpus& corpus,
                            const ExploreOptions& options);

}  // namespace dai::ddp
