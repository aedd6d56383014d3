// SPDX-License-Identifier: Apache-2.0
#pragma once

// The yardstick of the book: one device, one decoder, real text, and where a
// step's time goes. Whatever a later chapter distributes is compared with this.
//
//   const BaselineRun run = train_baseline(decoder, corpus, options, device);
//   fmt::print("{}", breakdown_table(run));
//   run.tokens_per_s();
//
// The first `untimed_steps` steps train like the others and are left out of all
// times: allocators and caches fill in them.

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "ch01_intro/corpus/token_corpus.h"
#include "ch01_intro/decoder/decoder.h"
#include "ch01_intro/statistics/statistics.h"
#include "ch01_intro/trainer/trainer.h"

namespace dai::intro {

struct BaselineOptions {
  std::int64_t samples = 8;        // windows of a microbatch
  std::int64_t microbatches = 1;   // of a step
  std::int64_t untimed_steps = 2;  // at the beginning; they train all the same
  // 0: no evaluation; else no more than `samples`, or a multiple of it.
  std::int64_t validation_windows = 0;
  TrainerOptions trainer;  // its schedule says how many steps
};

struct BaselineRun {
  std::vector<StepResult> steps;  // all of them
  std::int64_t untimed_steps = 0;
  double validation_before = 0;  // mean loss a token; 0 without an evaluation
  double validation_after = 0;

  double first_loss() const { return steps.front().loss; }
  double last_loss() const { return steps.back().loss; }
  std::int64_t skipped_updates() const;
  // Of the timed steps, in milliseconds.
  Summary step_ms() const;
  Summary part_ms(StepPart part) const;
  double tokens_per_s() const;  // at the median step
  // Loss by step, a step's parts, and what they come to.
  std::string to_string() const;
  // All of it under flat names that end in their unit.
  std::vector<std::pair<std::string, double>> metrics() const;
  std::vector<double> wall_ms;  // of every step, on a clock of its own
};

using AfterStep = std::function<void(const StepResult&)>;

// Throws UsageError when no step is left to be timed.
BaselineRun train_baseline(const Decoder& decoder, const TokenCorpus& corpus,
                           const BaselineOptions& options, at::Device device,
                           const AfterStep& after_step = nullptr);

// One row a part: median, p90, share of the step.
std::string breakdown_table(const BaselineRun& run);
// A few of the steps: loss, gradient norm, rate.
std::string loss_table(const BaselineRun& run);

}  // namespace dai::intro
