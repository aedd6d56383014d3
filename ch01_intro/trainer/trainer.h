// SPDX-License-Identifier: Apache-2.0
#pragma once

// The trainer that every later chapter plugs into. It knows no model, no
// corpus and no number of ranks: a TrainingTask makes losses, a GradientSync
// (ch01_intro/sync/gradient_sync.h) makes gradients global, a ParameterView
// says what this rank updates. What is left is the order of things:
//
//   for my microbatches: forward, backward       the sum of the tokens' losses,
//   sync.finish_step()                           over all tokens of the step
//   clip by the global norm
//   watch: finite? no spike?                     the same answer on all ranks
//   AdamW at the schedule's rate, or no update and a warning of rank 0
//
// The loss is normalised by the step's tokens over all microbatches and ranks,
// not by microbatch: a mean of means would weigh short microbatches too much,
// which is how accumulation and the full batch come to disagree.
//
//   Trainer trainer(task, sync, view, &group, options);
//   while (trainer.steps_done() < options.schedule.total_steps) {
//     StepResult r = trainer.step();
//   }
//
// With CanonicalSync and one thread a rank, on CPU, losses and weights have the
// same bits at every number of ranks that divides the microbatches.
// Errors: UsageError from options; those of the task, the sync and LossWatch.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>

#include "ch01_intro/microbatches.h"
#include "ch01_intro/sync/gradient_sync.h"
#include "ch01_intro/sync/step_clock.h"
#include "ch01_intro/trainer/adamw.h"
#include "ch01_intro/trainer/autocast.h"
#include "ch01_intro/trainer/learning_rate.h"
#include "ch01_intro/trainer/loss_watch.h"
#include "ch01_intro/trainer/parameter_view.h"

namespace dai {
class ProcessGroup;
class Trace;
}  // namespace dai

namespace dai::intro {

class MemoryLedger;

struct TokenLoss {
  at::Tensor sum;           // float32 scalar: over the tokens, with its graph
  std::int64_t tokens = 0;  // in that sum: those with a target, no padding
};

class TrainingTask {
 public:
  virtual ~TrainingTask() = default;

  // Of all microbatches of a step together; equal on every rank.
  virtual std::int64_t tokens_in_step(std::int64_t step) = 0;
  // Picks the data of microbatch `id`, a pure function of (step, id).
  virtual void load(std::int64_t step, std::int64_t id) = 0;
  // Of what was loaded last.
  virtual TokenLoss loss() = 0;
  // What was loaded last, for those who ask whether two ranks have the same
  // (chapter 3's doctor); undefined: not told.
  virtual at::Tensor loaded() const { return {}; }
};

struct TrainerOptions {
  std::int64_t microbatches = 12;  // a step, over all ranks
  WarmupCosine schedule = {};
  AdamWOptions adamw = {};
  double clip_norm = 1;  // 0: no clipping
  Precision precision = Precision::kFp32;
  LossWatchOptions watch = {};

  void check() const;  // throws UsageError
};

struct StepResult {
  std::int64_t step = 0;
  double loss = 0;           // mean over the tokens of the step, of all ranks
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
  std::int64_t tokens = 0;
  bool updated = true;
  std::string reason;        // why not, or empty
  bool stop_wished = false;  // by some rank
  StepTimes ms{};            // of this rank
};

class Trainer {
 public:
  // Keeps all references. A null group: this rank trains alone. A ledger, when
  // given, is told the phases forward, backward, sync and optimizer; a trace
  // gets a span of each, and of data, for the first kTracedSteps steps.
  Trainer(TrainingTask& task, GradientSync& sync, ParameterView& view,
          ProcessGroup* group, const TrainerOptions& options, at::Device device,
          MemoryLedger* ledger = nullptr, Trace* trace = nullptr);
  static constexpr std::int64_t kTracedSteps = 50;

  StepResult step();
  // Goes on from another run: what it has seen, step by step. The optimizer's
  // states are restored by whoever has them. Before the first step
  // (std::logic_error).
  void resume(std::span<const double> losses,
              std::span<const double> gradient_norms);
  // Asked on every rank at the end of each step: whether to stop after it. One
  // rank's yes is in all ranks' StepResult; it travels with the loss.
  void set_stop_wish(std::function<bool()> wish) {
    stop_wish_ = std::move(wish);
  }
  std::int64_t steps_done() const { return step_; }
  std::int64_t skipped_updates() const { return watch_.skipped(); }
  const AdamW& optimizer() const { return optimizer_; }

 private:
  void meet(const at::Tensor& sums, std::int64_t tokens, StepResult& result);

  TrainingTask& task_;
  GradientSync& sync_;
  ParameterView& view_;
  ProcessGroup* group_;
  TrainerOptions options_;
  at::Device device_;
  MemoryLedger* ledger_;
  Trace* trace_;
  MicrobatchRange mine_;
  AdamW optimizer_;
  LossWatch watch_;
  std::function<bool()> stop_wish_;
  std::int64_t step_ = 0;
};

// Mean loss a token over the microbatches 0 .. count - 1 of `task` at step 0,
// without gradients; the ranks share them. Equal on every rank.
double evaluate(TrainingTask& task, std::int64_t count, ProcessGroup* group,
                Precision precision, at::Device device);

}  // namespace dai::intro
