// SPDX-License-Identifier: Apache-2.0
#pragma once

// Data-parallel training to a result that means something: a decoder on real
// text until it beats a bigram table, a small network on Fashion-MNIST until it
// names nine pictures of ten. Any rung of the ladder, any exchange.
//
//   const TrainRun run = train_decoder(group, corpus, options);
//   run.validation_loss < run.bigram_loss
//   const TrainRun run = train_fashion(group, train, test, options);
//   run.test_accuracy
//
// Collective. Curves and times are this rank's, which for losses are all
// ranks'.

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "ch01_intro/corpus/token_corpus.h"
#include "ch01_intro/decoder/decoder_parts.h"
#include "ch01_intro/fashion_mnist.h"
#include "ch01_intro/trainer/trainer.h"
#include "ch03_ddp/checkpoint/run_checkpoints.h"
#include "ch03_ddp/doctor/watch.h"
#include "ch03_ddp/ladder/make_sync.h"

namespace dai::ddp {

struct TrainOptions {
  std::string sync = "reducer";
  SyncOptions exchange;
  std::int64_t microbatch_size = 4;       // windows or pictures
  intro::TrainerOptions trainer;          // steps and microbatches
  std::int64_t validation_windows = 240;  // of text; else 0
  std::uint64_t seed = 1234;
  // Of text:
  intro::DecoderConfig decoder;
  const intro::DecoderOps* ops = intro::DecoderPartsOptions{}.ops;
  std::string save;  // a safetensors file for rank 0's weights; empty: none
  CheckpointOptions checkpoints;
  Watch* watch = nullptr;  // none

  void check(int ranks) const;  // throws UsageError
};

struct TrainRun {
  // [steps], those before a checkpoint too:
  std::vector<double> losses;
  std::vector<double> gradient_norms;
  std::vector<double> learning_rates;
  std::int64_t skipped_updates = 0;
  std::int64_t scaler_skips = 0;  // of them: overflows of float16
  CheckpointReport checkpoints;
  double seconds = 0;  // of the steps since the start or the checkpoint
  double samples_per_s = 0;
  // Medians over the steps, in milliseconds:
  double step_ms = 0, backward_ms = 0, exposed_ms = 0, wire_ms = 0;
  double hidden = 0;                // of the wire's time
  std::int64_t wire_bytes = 0;      // of a step, handed to collectives
  std::int64_t bits_off_rank0 = 0;  // of the weights, the largest of any rank

  double validation_loss = 0, bigram_loss = 0;  // nats a token; text
  double test_accuracy = 0;                     // pictures

  std::string to_string() const;
  std::vector<std::pair<std::string, double>> metrics() const;
};

// Called on every rank after each step: the step and the exposed milliseconds.
using AfterStep =
    std::function<void(const intro::StepResult&, double exposed_ms)>;

TrainRun train_decoder(ProcessGroup& group, const intro::TokenCorpus& corpus,
                       const TrainOptions& options,
                       const AfterStep& after_step = nullptr,
                       Trace* trace = nullptr);
TrainRun train_fashion(ProcessGroup& group, const intro::FashionMnist& train,
                       const intro::FashionMnist& test,
                       const TrainOptions& options,
                       const AfterStep& after_step = nullptr,
                       Trace* trace = nullptr);

}  // namespace dai::ddp
