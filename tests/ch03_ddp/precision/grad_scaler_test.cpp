// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/precision/grad_scaler.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "ch01_intro/sync/naive_ddp.h"
#include "ch03_ddp/precision/scaled_training.h"
#include "common/errors.h"
#include "tests/ch03_ddp/support/made_up.h"
#include "tests/support/distributed_test.h"

namespace dai::ddp {
namespace {

using dai::testing::group;
using intro::NamedParameter;

constexpr float kInf = std::numeric_limits<float>::infinity();

GradScaler scaler_of(const GradScalerOptions& options = {}) {
  return GradScaler(options, &group(), group().device());
}

at::Tensor filled(double value, at::ScalarType dtype = at::kFloat) {
  return at::full({3}, value, at::TensorOptions(group().device()).dtype(dtype));
}

TEST(GradScaler, StartsWherePyTorchDoesAndGoesItsWay) {
  GradScaler scaler = scaler_of({.growth_interval = 3});
  EXPECT_EQ(scaler.get_scale(), 65536);
  const std::vector<std::pair<float, double>> steps{
      {1, 65536},   {1, 65536},    {1, 131072},  // three good ones: doubled
      {1, 131072},  {kInf, 65536},               // halved, and counting anew
      {1, 65536},   {1, 65536},    {1, 131072}, {std::nanf(""), 65536},
      {kInf, 32768}};
  for (const auto& [gradient, scale_after] : steps) {
    EXPECT_EQ(scaler.unscale({filled(gradient)}), std::isfinite(gradient));
    scaler.update();
    EXPECT_EQ(scaler.get_scale(), scale_after);
  }
}

TEST(GradScaler, UnscalesInPlaceEachDtype) {
  GradScaler scaler = scaler_of({.init_scale = 4});
  const std::vector<at::Tensor> gradients{filled(8), filled(2, at::kBFloat16),
                                          filled(6)};
  EXPECT_TRUE(scaler.unscale(gradients));
  EXPECT_EQ(gradients[0][0].item<float>(), 2);
  EXPECT_EQ(gradients[1][0].item<float>(), 0.5);
  EXPECT_EQ(gradients[2][0].item<float>(), 1.5);
  EXPECT_EQ(scaler.scale(filled(3))[0].item<float>(), 12);
}

// One rank's infinity, in one of its gradients, is everybody's skip.
TEST(GradScaler, AllRanksSkipTogether) {
  for (int bad = 0; bad < group().size(); ++bad) {
    GradScaler scaler = scaler_of();
    EXPECT_FALSE(scaler.unscale(
        {filled(1), filled(group().rank() == bad ? kInf : 1.f)}));
    scaler.update();
    EXPECT_EQ(scaler.get_scale(), 32768);
  }
}

TEST(GradScaler, RefusesGradientsThatDividingWouldLose) {
  GradScaler scaler = scaler_of();
  EXPECT_THROW(scaler.unscale({filled(1, at::kHalf)}), std::invalid_argument);
}

TEST(GradScaler, DisabledStaysSoWhateverIsLoaded) {
  GradScaler scaler = scaler_of({.enabled = false});
  scaler.load({.scale = 65536, .growth_tracker = 3});
  EXPECT_EQ(scaler.get_scale(), 1);
}

TEST(GradScaler, RefusesToBeUsedOutOfOrder) {
  EXPECT_THROW(scaler_of({.init_scale = 1e300}), UsageError);
  GradScaler scaler = scaler_of();
  EXPECT_THROW(scaler.update(), std::logic_error);
  scaler.unscale({filled(1)});
  EXPECT_THROW(scaler.unscale({filled(1)}), std::logic_error);
  EXPECT_THROW(scaler_of({.init_scale = 0}), UsageError);
  EXPECT_THROW(scaler_of({.growth_factor = 1}), UsageError);
  EXPECT_THROW(scaler_of({.backoff_factor = 1}), UsageError);
  EXPECT_THROW(scaler_of({.growth_interval = 0}), UsageError);
  EXPECT_THROW(scaler_of().unscale({filled(1).to_sparse()}),
               std::invalid_argument);
}

TEST(GradScaler, DisabledDoesNothing) {
  GradScaler scaler = scaler_of({.enabled = false});
  const at::Tensor gradient = filled(kInf);
  EXPECT_TRUE(scaler.unscale({gradient}));
  scaler.update();
  EXPECT_EQ(scaler.get_scale(), 1);
  EXPECT_EQ(scaler.scale(filled(3))[0].item<float>(), 3);
}

TEST(GradScaler, GoesOnFromASavedState) {
  GradScaler first = scaler_of({.growth_interval = 3});
  for (int step = 0; step < 2; ++step) {
    first.unscale({filled(1)});
    first.update();
  }
  GradScaler second = scaler_of({.growth_interval = 3});
  second.load(first.state());
  second.unscale({filled(1)});
  second.update();
  EXPECT_EQ(second.get_scale(), 131072);
  EXPECT_THROW(second.load({.scale = -1}), UsageError);
}

// A task of made-up microbatches, whose loss has gradients that float16 could
// not hold without scaling; in `bad_step` one microbatch's are infinite.
class MadeUpTask : public intro::TrainingTask {
 public:
  MadeUpTask(std::vector<NamedParameter> weights, std::int64_t microbatches,
             std::int64_t bad_step)
      : weights_(std::move(weights)),
        microbatches_(microbatches),
        bad_step_(bad_step) {}
  std::int64_t tokens_in_step(std::int64_t) override { return microbatches_; }
  void load(std::int64_t step, std::int64_t id) override {
    step_ = step;
    id_ = id;
  }
  intro::TokenLoss loss() override {
    at::Tensor sum = testing::loss_of(weights_, id_ + step_ * microbatches_);
    if (step_ == bad_step_ && id_ == microbatches_ - 1) {
      // The value stays; the gradient overflows once it is scaled.
      const at::Tensor& w = weights_[0].tensor;
      sum = sum + ((w - w.detach()) * 1e38).sum();
    }
    return {sum, 1};
  }

 private:
  const std::vector<NamedParameter> weights_;
  const std::int64_t microbatches_, bad_step_;
  std::int64_t step_ = 0, id_ = 0;
};

struct Trained {
  std::vector<double> losses;
  std::vector<bool> updated;
  std::vector<NamedParameter> weights;
  double scale = 0;
};

Trained train(bool scaled, std::int64_t bad_step) {
  constexpr std::int64_t kMicrobatches = 12;
  Trained result;
  result.weights = testing::layers(10, {12, 5}, group().device());
  MadeUpTask task(result.weights, kMicrobatches, bad_step);
  intro::NaiveDdp sync(result.weights, kMicrobatches, &group());
  GradScaler scaler = scaler_of({.enabled = scaled});
  ScaledTask scaled_task(task, scaler);
  ScaledSync scaled_sync(sync, scaler, result.weights);
  intro::WholeParameters view(result.weights);
  intro::Trainer trainer(
      scaled_task, scaled_sync, view, &group(),
      {.microbatches = kMicrobatches,
       .schedule = {.peak = 1e-2, .warmup_steps = 1, .total_steps = 6}},
      group().device());
  for (int step = 0; step < 6; ++step) {
    const intro::StepResult done = trainer.step();
    result.losses.push_back(done.loss);
    result.updated.push_back(done.updated);
  }
  result.scale = scaler.get_scale();
  return result;
}

// Powers of two change no bit: the scaled training is the plain one.
TEST(ScaledTraining, IsThePlainTrainingToTheBit) {
  const Trained plain = train(false, -1), scaled = train(true, -1);
  EXPECT_EQ(plain.losses, scaled.losses);
  for (std::size_t i = 0; i < plain.weights.size(); ++i) {
    EXPECT_TRUE(at::equal(plain.weights[i].tensor, scaled.weights[i].tensor));
  }
}

TEST(ScaledTraining, SkipsAStepThatOverflowsOnEveryRank) {
  const Trained scaled = train(true, 2);
  for (int step = 0; step < 6; ++step) {
    EXPECT_EQ(scaled.updated[step], step != 2) << step;
    EXPECT_TRUE(std::isfinite(scaled.losses[step]));
  }
  EXPECT_EQ(scaled.scale, 32768);
  for (const auto& weight : scaled.weights) {
    at::Tensor rank0 = weight.tensor.detach().clone();
    group().broadcast(rank0);
    EXPECT_TRUE(at::equal(rank0, weight.tensor)) << weight.name;
  }
}

}  // namespace
}  // namespace dai::ddp
