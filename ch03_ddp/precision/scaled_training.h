// SPDX-License-Identifier: Apache-2.0
#pragma once

// Loss scaling for chapter 1's trainer, which knows nothing of it: one wrapper
// where losses are made and one where gradients become global.
//
//   GradScaler scaler({}, &group, device);
//   ScaledTask task(inner_task, scaler);
//   ScaledSync sync(inner_sync, scaler, parameters);
//   Trainer trainer(task, sync, view, &group, options, device);
//
// The loss that people read keeps its value: only what backward starts with is
// multiplied. A step whose gradients are not finite reaches the trainer with a
// norm that is not, and its LossWatch skips it, on all ranks; the scale is then
// halved.

#include <vector>

#include "ch01_intro/trainer/trainer.h"
#include "ch03_ddp/precision/grad_scaler.h"
#include "ch03_ddp/precision/wrapped_sync.h"

namespace dai::ddp {

// The same value forwards, `factor` times the gradient backwards.
at::Tensor scale_gradient(const at::Tensor& value, double factor);

class ScaledTask : public intro::TrainingTask {
 public:
  // Keeps both references.
  ScaledTask(intro::TrainingTask& inner, const GradScaler& scaler)
      : inner_(inner), scaler_(scaler) {}

  std::int64_t tokens_in_step(std::int64_t step) override {
    return inner_.tokens_in_step(step);
  }
  void load(std::int64_t step, std::int64_t id) override {
    inner_.load(step, id);
  }
  intro::TokenLoss loss() override;
  at::Tensor loaded() const override { return inner_.loaded(); }

 private:
  intro::TrainingTask& inner_;
  const GradScaler& scaler_;
};

class ScaledSync : public WrappedSync {
 public:
  // Keeps both references. `parameters`: those whose gradients `inner` makes
  // global on this rank.
  ScaledSync(intro::GradientSync& inner, GradScaler& scaler,
             std::vector<intro::NamedParameter> parameters);

  intro::SyncTimes finish_step() override;

  std::int64_t skipped() const { return skipped_; }

 private:
  GradScaler& scaler_;
  const std::vector<intro::NamedParameter> parameters_;
  std::int64_t skipped_ = 0;
};

}  // namespace dai::ddp
