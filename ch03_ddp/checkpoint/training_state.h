// SPDX-License-Identifier: Apache-2.0
#pragma once

// All that a data-parallel training is at the end of a step, by names that say
// nothing of ranks, buckets or syncs:
//
//   model.NAME               weights
//   adamw.m.NAME, adamw.v.NAME, adamw.step.NAME
//   history.loss, history.gradient_norm      float64 [steps]
//   metadata: steps, seed, loss scale, config.* (what must be the same)
//
// What is missing needs no keeping: which data a step sees and what the next
// random number is are functions of the step (ch01_intro/sampler.h), the
// learning rate, too, and what the loss watch knows follows from the history.
// Not kept: the errors that int8 and PowerSGD still owe.
//
//   TrainingState state(parameters, trainer, scaler, {{"model", "nano-1m"}});
//   state.saw(trainer.step());
//   saver.save(state.steps(), state.tensors(), state.metadata());
//   state.restore(checkpoint);      // before the first step

#include <string>
#include <vector>

#include "ch01_intro/trainer/trainer.h"
#include "ch03_ddp/precision/grad_scaler.h"
#include "common/manifest.h"

namespace dai::ddp {

Dtype checkpoint_dtype(at::ScalarType type);  // std::invalid_argument: none

class TrainingState {
 public:
  // Keeps references. A null scaler: the loss is not scaled.
  TrainingState(const std::vector<intro::NamedParameter>& parameters,
                intro::Trainer& trainer, GradScaler* scaler, Metadata config);

  void saw(const intro::StepResult& result);

  std::int64_t steps() const { return std::ssize(losses_); }
  const std::vector<double>& losses() const { return losses_; }
  const std::vector<double>& gradient_norms() const { return norms_; }

  // Live ones, but for the history, which is copied.
  std::vector<intro::NamedParameter> tensors() const;
  Metadata metadata() const;

  // Throws UsageError that names the first thing that is another's: a value of
  // the configuration, a tensor that is missing, superfluous or of another
  // shape or type. Nothing has been changed then.
  void restore(Checkpoint& checkpoint);

 private:
  std::vector<intro::NamedParameter> live() const;
  void check_fits(const CheckpointManifest& manifest) const;

  const std::vector<intro::NamedParameter>& parameters_;
  intro::Trainer& trainer_;
  GradScaler* const scaler_;
  const Metadata config_;
  std::vector<double> losses_, norms_;
};

}  // namespace dai::ddp
