// SPDX-License-Identifier: Apache-2.0
#pragma once

// Tells a watch what chapter 1's trainer is doing, which knows nothing of it:
// one wrapper where losses are made and one where gradients become global.

#include <utility>
#include <vector>

#include "ch01_intro/trainer/trainer.h"
#include "ch03_ddp/doctor/model_watch.h"
#include "ch03_ddp/doctor/watch.h"
#include "ch03_ddp/precision/wrapped_sync.h"

namespace dai::ddp {

class WatchedTask : public intro::TrainingTask {
 public:
  // Keeps both references.
  WatchedTask(intro::TrainingTask& inner, Watch& watch,
              std::vector<intro::NamedParameter> parameters)
      : inner_(inner), watch_(watch), model_(watch, std::move(parameters)) {}

  std::int64_t tokens_in_step(std::int64_t step) override {
    return inner_.tokens_in_step(step);
  }
  void load(std::int64_t step, std::int64_t id) override {
    if (step != step_) {
      watch_.begin_step(step);
      model_.begin_step(step);
    }
    step_ = step;
    watch_.enter("data");
    inner_.load(step, id);
    if (const at::Tensor loaded = inner_.loaded(); loaded.defined()) {
      model_.saw_data(step, fingerprint(loaded));
    }
  }
  intro::TokenLoss loss() override {
    watch_.enter("forward");
    const intro::TokenLoss loss = inner_.loss();
    model_.saw_loss(step_, loss.sum, [&] { inner_.loss(); });
    return loss;
  }
  at::Tensor loaded() const override { return inner_.loaded(); }

 private:
  intro::TrainingTask& inner_;
  Watch& watch_;
  ModelWatch model_;
  std::int64_t step_ = -1;
};

class WatchedSync : public WrappedSync {
 public:
  // Keeps both references.
  WatchedSync(intro::GradientSync& inner, Watch& watch)
      : WrappedSync(inner), watch_(watch) {}

  void before_backward(const intro::Microbatch& microbatch,
                       const at::Tensor& loss) override {
    watch_.enter("backward");
    WrappedSync::before_backward(microbatch, loss);
  }
  intro::SyncTimes finish_step() override {
    watch_.enter("sync");
    const intro::SyncTimes times = inner_.finish_step();
    watch_.enter("update");
    return times;
  }

 private:
  Watch& watch_;
};

}  // namespace dai::ddp
