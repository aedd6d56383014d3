// SPDX-License-Identifier: Apache-2.0
#pragma once

// The same decoder, the same text, the same steps on every rung of the ladder:
// what each one makes of the same wire. Rungs take turns step by step, so that
// a machine that is slow for a while is slow for all of them.
//
//   const Ladder ladder = climb(group, corpus, options);
//   fmt::print("{}", ladder.to_string());
//   ladder.rungs[2].hidden;    // of overlapped: the part of the wire's time
//                              // that backward did not wait for
//
// Collective; the numbers are rank 0's, on all ranks.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "ch01_intro/corpus/token_corpus.h"
#include "ch01_intro/decoder/decoder_parts.h"
#include "ch03_ddp/ladder/make_sync.h"
#include "ch03_ddp/ladder/timed_sync.h"

namespace dai::ddp {

struct LadderOptions {
  intro::DecoderConfig decoder;
  const intro::DecoderOps* ops = intro::DecoderPartsOptions{}.ops;
  std::vector<std::string> syncs = sync_names();  // the first is compared with
  SyncOptions sync;
  std::int64_t steps = 20;
  std::int64_t untimed_steps = 3;    // of them: buckets are filled anew
  std::int64_t microbatches = 12;    // a step, over all ranks
  std::int64_t microbatch_size = 4;  // windows
  double learning_rate = 1e-3;
  std::uint64_t seed = 1234;

  // Throws UsageError.
  void check(int ranks) const;
};

// Times are medians over the steps that count, in milliseconds.
struct Rung {
  std::string sync;
  std::vector<double> losses;  // [steps]
  double step_ms = 0;
  double backward_ms = 0;  // computing, of the last microbatch
  double wire_ms = 0;      // time in which something was on the wire
  double exposed_ms = 0;   // from the last gradient to the means
  double hidden = 0;       // of wire_ms, behind backward
  std::int64_t collectives = 0, bytes = 0;  // of a step
  StepTimeline last_step;
  // The largest of any rank:
  double max_parameter_difference = 0;  // from the first rung's
  std::int64_t bits_off_first_rung = 0;
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
