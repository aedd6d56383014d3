// SPDX-License-Identifier: Apache-2.0
#pragma once

// Chapter 1's trainer by one of the recipes (recipe.h), from the inside out:
//
//   sync         of the ladder: gradients in the weights' numbers, averaged
//   masters      if any, take them over in float32 (MasterSync)
//   scaler       if any, divides them and looks for overflows (ScaledSync)
//   the trainer  clips, watches, updates masters or weights
//
//   RecipeTraining training(recipe("fp16"), group, corpus, sizes,
//   sync_options); training.step(); training.skipped()      // which steps came
//   to nothing, on this rank
//
// An overflow can be made: in one step, on one rank, the loss's gradient is
// infinite. Collective.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ch01_intro/corpus/token_corpus.h"
#include "ch01_intro/decoder/decoder.h"
#include "ch01_intro/trainer/language_task.h"
#include "ch01_intro/trainer/trainer.h"
#include "ch03_ddp/compare/compared_training.h"
#include "ch03_ddp/ladder/make_sync.h"
#include "ch03_ddp/ladder/timed_sync.h"
#include "ch03_ddp/numerics/recipe.h"
#include "ch03_ddp/precision/grad_scaler.h"
#include "ch03_ddp/precision/master_weights.h"
#include "ch03_ddp/precision/scaled_training.h"

namespace dai::ddp {

struct Overflow {
  std::int64_t step = -1;  // never
  int rank = 0;
};

class RecipeTraining {
 public:
  RecipeTraining(const Recipe& recipe, ProcessGroup& group,
                 const intro::TokenCorpus& corpus, const ComparedSizes& sizes,
                 const std::string& sync, const SyncOptions& options,
                 const GradScalerOptions& scaling, const Overflow& overflow);
  ~RecipeTraining();

  void step(bool counts);

  const Recipe& recipe() const { return recipe_; }
  const std::vector<double>& losses() const { return losses_; }
  const std::vector<double>& step_ms() const { return step_ms_; }
  const std::vector<std::int64_t>& skipped() const { return skipped_; }
  std::int64_t wire_bytes() const { return sync_.timeline().wire_bytes(); }
  double loss_scale() const { return scaler_ ? scaler_->get_scale() : 1; }
  // Of the model's own weights.
  const std::vector<intro::NamedParameter>& parameters() const {
    return decoder_.parameters();
  }
  // Bytes a parameter, as allocated: weights; the buckets that gradients live
  // in, which are what a step has handed to collectives; masters with theirs;
  // the optimizer's two moments.
  double bytes_a_parameter() const;
  // Mean over the first windows that were held back, nats a token.
  double validation_loss(std::int64_t windows);

 private:
  class OverflowingTask;

  const Recipe recipe_;
  ProcessGroup& group_;
  const intro::TokenCorpus& corpus_;
  const ComparedSizes sizes_;
  intro::DecoderParts parts_;
  const intro::Decoder decoder_;
  intro::LanguageTask language_;
  TimedSync sync_;
  std::unique_ptr<MasterWeights> masters_;
  std::unique_ptr<GradScaler> scaler_;
  std::unique_ptr<OverflowingTask> overflowing_;
  std::unique_ptr<ScaledTask> scaled_task_;
  std::unique_ptr<MasterSync> master_sync_;
  std::unique_ptr<ScaledSync> scaled_sync_;
  std::unique_ptr<intro::ParameterView> whole_;  // without masters
  std::unique_ptr<intro::Trainer> trainer_;
  std::vector<double> losses_, step_ms_;
  std::vector<std::int64_t> skipped_;
};

}  // namespace dai::ddp
