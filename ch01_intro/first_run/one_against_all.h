// SPDX-License-Identifier: Apache-2.0
#pragma once

// The experiment of chapter 1: train the same decoder twice, first on rank 0
// alone, then on all ranks, and lay the two side by side. If the two curves
// agree, the N processes are one computation; if they do not, something in
// between is broken, however well the loss may fall.
//
//   OneAgainstAll both = train_one_against_all(group, corpus, options,
//                                              Reduction::kCanonical);
//   fmt::print("{}", both.to_string());
//
// A step is `microbatches` microbatches of `microbatch_size` windows of text.
// Which windows those are is settled by (seed, step, microbatch id), and the
// initial weights by (seed, name, element). So the number of ranks decides who
// computes a microbatch and never what is computed: with kCanonical on CPU
// losses and weights are those of one rank bit for bit (canonical_sum.h says
// under which conditions).
//
// Every rank calls it and gets the same numbers. With a group of one rank the
// second run repeats the first: then it shows that runs are repeatable.

#include <c10/core/Device.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ch01_intro/corpus/token_corpus.h"
#include "ch01_intro/decoder/decoder_parts.h"
#include "ch01_intro/first_run/scaling_breakdown.h"

namespace dai {
class ProcessGroup;
class Trace;
}  // namespace dai

namespace dai::intro {

enum class Reduction { kCanonical, kAllReduce };

struct FirstRunOptions {
  DecoderConfig decoder;
  const DecoderOps* ops = DecoderPartsOptions{}.ops;
  std::int64_t steps = 100;
  std::int64_t microbatches = 12;    // a step, over all ranks
  std::int64_t microbatch_size = 8;  // windows
  // The peak, reached after a tenth of the steps; AdamW, clipped at norm 1.
  double learning_rate = 1e-3;
  std::uint64_t seed = 1234;

  // Throws UsageError where these options, the corpus and the ranks do not fit
  // together. train_one_against_all() asks again before anybody waits.
  void check(const TokenCorpus& corpus, int ranks) const;
};

struct OneAgainstAll {
  int ranks = 1;
  std::int64_t vocab_size = 0;
  std::vector<double> one_rank_loss;   // [steps], mean over a step's tokens
  std::vector<double> all_ranks_loss;  // [steps]
  double one_rank_validation_loss = 0;
  double all_ranks_validation_loss = 0;

  // Infinite where a number is NaN.
  double max_loss_difference = 0;
  double validation_loss_difference = 0;
  double max_parameter_difference = 0;
  // Bits of the final parameters, the largest count of any rank.
  std::int64_t bits_off_one_rank = 0;  // against the decoder trained alone
  std::int64_t bits_off_rank0 = 0;     // against rank 0's after the same run

  std::int64_t skipped_updates = 0;  // of both runs

  ScalingBreakdown scaling;
  std::int64_t tokens_per_step = 0;
  double startup_ms = 0;  // process start to the end of rank 0's first step

  // Losses of all ranks as parts of ln(vocabulary), the loss of one who knows
  // nothing: the first is near 1, the last has to be below. NaN stays NaN.
  double first_to_blind_loss() const;
  double last_to_blind_loss() const;
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

// `trace` receives this rank's spans of the second run.
OneAgainstAll train_one_against_all(ProcessGroup& group,
                                    const TokenCorpus& corpus,
                                    const FirstRunOptions& options,
                                    Reduction reduction,
                                    Trace* trace = nullptr);

}  // namespace dai::intro
