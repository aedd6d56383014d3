// SPDX-License-Identifier: Apache-2.0
#pragma once

// The same decoder, the same text, the same steps on every rung of the ladder
// (ch03_ddp/compare/compared_training.h): what each makes of the same wire.
//
//   const Ladder ladder = climb(group, corpus, options);
//   fmt::print("{}", ladder.to_string());
//   ladder.rungs[2].medians.hidden   // of overlapped: the part of the wire's
//                                    // time behind backward
//
// Collective; the numbers are rank 0's, on all ranks.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "ch01_intro/corpus/token_corpus.h"
#include "ch03_ddp/compare/compared_training.h"
#include "ch03_ddp/ladder/make_sync.h"

namespace dai::ddp {

struct LadderOptions {
  ComparedSizes training;
  std::vector<std::string> syncs = sync_names();  // the first is compared with
  SyncOptions sync;

  // Throws UsageError.
  void check(int ranks) const;
};

struct Rung {
  std::string sync;
  std::vector<double> losses;  // [steps]
  StepMedians medians;
  std::int64_t collectives = 0, bytes = 0;  // of a step
  StepTimeline last_step;
  // The largest of any rank:
  double max_parameter_difference = 0;  // from the first rung's
  std::int64_t bits_off_first_rung = 0;
  double first_gradients_apart = 0;  // from the first rung's, relative
  std::int64_t bits_off_rank0 = 0;
};

struct Ladder {
  int ranks = 1;
  std::int64_t parameters = 0;  // tensors of the model
  std::vector<Rung> rungs;

  std::string to_string() const;
  // `step_ms_overlapped`, ...
  std::vector<std::pair<std::string, double>> metrics() const;
  // For scripts/plot: of each rung's last step, from the start of backward.
  nlohmann::ordered_json timelines() const;
};

Ladder climb(ProcessGroup& group, const intro::TokenCorpus& corpus,
             const LadderOptions& options);

}  // namespace dai::ddp
