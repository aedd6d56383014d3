// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/numerics/recipe_training.h"

#include <limits>
#include <utility>

#include "common/torch/process_group.h"
#include "common/trace.h"

namespace dai::ddp {

using intro::NamedParameter;

// Its losses keep their values; one of them has an infinite gradient.
class RecipeTraining::OverflowingTask : public intro::TrainingTask {
 public:
  OverflowingTask(intro::TrainingTask& inner, const Overflow& overflow,
                  int rank)
      : inner_(inner), overflow_(overflow), rank_(rank) {}

  std::int64_t tokens_in_step(std::int64_t step) override {
    return inner_.tokens_in_step(step);
  }
  void load(std::int64_t step, std::int64_t id) override {
    step_ = step;
    inner_.load(step, id);
  }
  intro::TokenLoss loss() override {
    intro::TokenLoss loss = inner_.loss();
    if (step_ == overflow_.step && rank_ == overflow_.rank) {
      loss.sum =
          scale_gradient(loss.sum, std::numeric_limits<double>::infinity());
    }
    return loss;
  }

 private:
  intro::TrainingTask& inner_;
  const Overflow overflow_;
  const int rank_;
  std::int64_t step_ = -1;
};

namespace {

// The first number of each parameter, by a bit.
void nudge(const std::vector<NamedParameter>& parameters) {
  for (const auto& parameter : parameters) {
    at::Tensor first = parameter.tensor.detach().flatten().narrow(0, 0, 1);
    first.mul_(1 + 1.2e-7);
  }
}

}  // namespace

RecipeTraining::RecipeTraining(const Recipe& recipe, ProcessGroup& group,
                               const intro::TokenCorpus& corpus,
                               const ComparedSizes& sizes,
                               const std::string& sync,
                               const SyncOptions& options,
                               const GradScalerOptions& scaling,
                               const Overflow& overflow)
    : recipe_(recipe),
      group_(group),
      corpus_(corpus),
      sizes_(sizes),
      parts_(sizes.decoder,
             {.seed = sizes.seed, .device = group.device(), .ops = sizes.ops}),
      decoder_(parts_),
      language_(decoder_, corpus,
                {.microbatches = sizes.microbatches,
                 .samples = sizes.microbatch_size},
                group.device()),
      sync_(decoder_.parameters(), group, [&] {
        if (recipe.nudged) nudge(decoder_.parameters());
        // Buckets have the gradients' numbers, which are the weights'.
        if (recipe.weights != at::kFloat) {
          to_half(decoder_.parameters(), recipe.weights);
        }
        return make_sync(sync, options, decoder_.parameters(),
                         sizes.microbatches, group);
      }) {
  intro::TrainingTask* task = &language_;
  intro::GradientSync* outer = &sync_;
  const std::vector<NamedParameter>* updated = &decoder_.parameters();
  overflowing_ =
      std::make_unique<OverflowingTask>(*task, overflow, group.rank());
  task = overflowing_.get();
  if (recipe.masters) {
    masters_ = std::make_unique<MasterWeights>(decoder_.parameters());
    master_sync_ = std::make_unique<MasterSync>(*outer, *masters_);
    outer = master_sync_.get();
    updated = &masters_->masters();
  } else {
    whole_ = std::make_unique<intro::WholeParameters>(decoder_.parameters());
  }
  if (recipe.scaled) {
    scaler_ = std::make_unique<GradScaler>(scaling, &group, group.device());
    scaled_task_ = std::make_unique<ScaledTask>(*task, *scaler_);
    scaled_sync_ = std::make_unique<ScaledSync>(*outer, *scaler_, *updated);
    task = scaled_task_.get();
    outer = scaled_sync_.get();
  }
  intro::ParameterView& view =
      masters_ ? static_cast<intro::ParameterView&>(*masters_) : *whole_;
  intro::TrainerOptions trainer = sizes.trainer();
  trainer.precision = recipe.autocast;
  trainer_ = std::make_unique<intro::Trainer>(*task, *outer, view, &group,
                                              trainer, group.device(),
                                              /*ledger=*/nullptr, sizes.trace);
}
RecipeTraining::~RecipeTraining() = default;

void RecipeTraining::step(bool counts) {
  const TraceSpan span(trainer_->steps_done() < intro::Trainer::kTracedSteps
                           ? sizes_.trace
                           : nullptr,
                       recipe_.name, "training");
  const intro::StepResult result = trainer_->step();
  losses_.push_back(result.loss);
  if (!result.updated) skipped_.push_back(result.step);
  if (counts) step_ms_.push_back(intro::total_ms(result.ms));
}

double RecipeTraining::bytes_a_parameter() const {
  std::int64_t bytes = wire_bytes(), numbers = 0;
  for (const auto& parameter : decoder_.parameters()) {
    bytes += static_cast<std::int64_t>(parameter.tensor.nbytes());
    numbers += parameter.tensor.numel();
  }
  if (masters_) {
    for (const auto& master : masters_->masters()) {
      bytes += static_cast<std::int64_t>(master.tensor.nbytes() +
                                         master.tensor.grad().nbytes());
    }
  }
  for (const auto& state : trainer_->optimizer().states()) {
    bytes += static_cast<std::int64_t>(state.m.nbytes() + state.v.nbytes());
  }
  return static_cast<double>(bytes) / static_cast<double>(numbers);
}

double RecipeTraining::validation_loss(std::int64_t windows) {
  const std::int64_t held_back = windows / sizes_.microbatch_size;
  intro::LanguageTask validation(decoder_, corpus_,
                                 {.microbatches = held_back,
                                  .samples = sizes_.microbatch_size,
                                  .split = intro::CorpusSplit::kValidation},
                                 group_.device());
  return intro::evaluate(validation, held_back, &group_, recipe_.autocast,
                         group_.device());
}

}  // namespace dai::ddp
