// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/trainer/trainer.h"

#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "ch01_intro/counter_random.h"
#include "ch01_intro/memory/memory_ledger.h"
#include "ch01_intro/sync/canonical_sum.h"
#include "ch01_intro/sync/naive_ddp.h"
#include "common/errors.h"
#include "common/timer.h"
#include "common/torch/device.h"
#include "common/trace.h"
#include "tests/support/distributed_test.h"

namespace dai::intro {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kVocab = 24, kMicrobatches = 12;

// A table of next-token logits and a bias: the smallest language model. Each
// microbatch has another number of tokens, which is what makes a mean of means
// differ from the mean.
class Bigrams : public TrainingTask {
 public:
  Bigrams()
      : table_(noise("table", {kVocab, kVocab}).requires_grad_()),
        bias_(noise("bias", {kVocab}).requires_grad_()) {}

  static std::int64_t tokens_of(std::int64_t id) { return 3 + 5 * id; }
  std::int64_t tokens_in_step(std::int64_t) override {
    std::int64_t tokens = promised_too_many;
    for (std::int64_t id = 0; id < kMicrobatches; ++id) tokens += tokens_of(id);
    return tokens;
  }
  void load(std::int64_t step, std::int64_t id) override {
    const std::int64_t count = tokens_of(id);
    inputs_ = at::empty({count}, at::kLong);
    targets_ = at::empty({count}, at::kLong);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::uint64_t draw =
          mix64(stream_key(step * 100 + id, "pairs") + i);
      inputs_.data_ptr<std::int64_t>()[i] = draw % kVocab;
      targets_.data_ptr<std::int64_t>()[i] = (draw % kVocab + 1) % kVocab;
    }
    poisoned_ = poison_step && *poison_step == step && id == 0;
  }
  TokenLoss loss() override {
    const at::Tensor logits = at::embedding(table_, inputs_) + bias_;
    at::Tensor sum =
        at::cross_entropy_loss(logits, targets_, {}, at::Reduction::Sum);
    if (poisoned_) sum = sum * std::numeric_limits<float>::quiet_NaN();
    return {sum, targets_.numel()};
  }
  std::vector<NamedParameter> parameters() const {
    return {{"table", table_}, {"bias", bias_}};
  }
  const at::Tensor& table() const { return table_; }
  const at::Tensor& inputs() const { return inputs_; }
  const at::Tensor& targets() const { return targets_; }

  std::optional<std::int64_t> poison_step;
  std::int64_t promised_too_many = 0;

 private:
  static at::Tensor noise(const char* name, at::IntArrayRef shape) {
    at::Tensor tensor = at::empty(shape, at::kFloat);
    const std::uint64_t key = stream_key(1234, name);
    for (std::int64_t i = 0; i < tensor.numel(); ++i) {
      tensor.data_ptr<float>()[i] = uniform01(key, i) - 0.5f;
    }
    return tensor;
  }
  at::Tensor table_, bias_, inputs_, targets_;
  bool poisoned_ = false;
};

// Everything that one training needs, on its own weights.
template <typename Sync>
struct Training {
  explicit Training(ProcessGroup* group, const TrainerOptions& options = {},
                    MemoryLedger* ledger = nullptr, Trace* trace = nullptr)
      : sync(task.parameters(), kMicrobatches, group),
        view(task.parameters()),
        trainer(task, sync, view, group, options, at::Device(at::kCPU), ledger,
                trace) {}
  Bigrams task;
  Sync sync;
  WholeParameters view;
  Trainer trainer;
};

TrainerOptions options() {
  return {.microbatches = kMicrobatches,
          .schedule = {.peak = 0.05, .warmup_steps = 2, .total_steps = 30}};
}

class TrainerTest : public ::testing::Test {
 protected:
  TrainerTest() { set_deterministic_threads(); }
  ProcessGroup* const group_ = &testing::group();
};

TEST_F(TrainerTest, ManyRanksAreOneRankBitForBit) {
  Training<CanonicalSync> alone(nullptr, options()), all(group_, options());
  for (int step = 0; step < 10; ++step) {
    const StepResult a = alone.trainer.step(), b = all.trainer.step();
    EXPECT_EQ(a.loss, b.loss) << step;
    EXPECT_EQ(a.gradient_norm, b.gradient_norm) << step;
    EXPECT_EQ(a.step, step);
  }
  EXPECT_TRUE(alone.task.table().equal(all.task.table()));
}

// The gradient of the step is that of one batch with all its tokens.
TEST_F(TrainerTest, AccumulationIsTheFullBatch) {
  Training<NaiveDdp> training(group_, {.microbatches = kMicrobatches,
                                       .schedule = {.peak = 1e-30},
                                       .clip_norm = 0});
  const StepResult result = training.trainer.step();
  Bigrams whole;
  at::Tensor sum = at::zeros({}, at::kDouble);
  std::int64_t tokens = 0;
  for (std::int64_t id = 0; id < kMicrobatches; ++id) {
    whole.load(0, id);
    const TokenLoss loss = whole.loss();
    sum = sum + loss.sum.to(at::kDouble);
    tokens += loss.tokens;
  }
  const at::Tensor mean = sum / static_cast<double>(tokens);
  mean.backward();
  EXPECT_EQ(result.tokens, tokens);
  EXPECT_NEAR(result.loss, mean.item<double>(), 1e-6);
  const at::Tensor difference =
      training.task.table().grad() - whole.table().grad();
  EXPECT_LT(difference.abs().max().item<double>(), 1e-7);
  EXPECT_GT(whole.table().grad().abs().max().item<double>(), 1e-3);
}

TEST_F(TrainerTest, ItLearns) {
  Training<NaiveDdp> training(group_, options());
  const double first = training.trainer.step().loss;
  double last = first;
  while (training.trainer.steps_done() < 30) {
    last = training.trainer.step().loss;
  }
  EXPECT_LT(last, 0.8 * first);
  const double judged = evaluate(training.task, kMicrobatches, group_,
                                 Precision::kFp32, at::Device(at::kCPU));
  EXPECT_LT(judged, 0.8 * first);
}

TEST_F(TrainerTest, ANanOnOneRankSkipsTheUpdateOnAll) {
  Training<CanonicalSync> training(group_, options());
  training.task.poison_step = 1;  // in a microbatch of rank 0
  EXPECT_TRUE(training.trainer.step().updated);
  const at::Tensor before = training.task.table().detach().clone();
  std::ostringstream warnings;
  const auto logger = spdlog::default_logger();
  const auto sink = std::make_shared<spdlog::sinks::ostream_sink_st>(warnings);
  sink->set_pattern("%v");
  spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", sink));
  const StepResult result = training.trainer.step();
  spdlog::set_default_logger(logger);
  EXPECT_FALSE(result.updated);
  EXPECT_THAT(result.reason, HasSubstr("loss is nan at step 2"));
  EXPECT_EQ(warnings.str(), group_->rank() == 0 ? result.reason + "\n" : "");
  EXPECT_EQ(training.trainer.skipped_updates(), 1);
  EXPECT_TRUE(before.equal(training.task.table().detach()));
  EXPECT_TRUE(training.trainer.step().updated);
  EXPECT_FALSE(before.equal(training.task.table().detach()));
}

TEST_F(TrainerTest, ClippingBoundsWhatTheOptimizerSees) {
  TrainerOptions clipped = options();
  clipped.clip_norm = 1e-3;
  Training<NaiveDdp> training(group_, clipped);
  const StepResult result = training.trainer.step();
  EXPECT_GT(result.gradient_norm, 1e-2);  // reported before clipping
  EXPECT_NEAR(gradient_norm(training.view), 1e-3, 1e-7);
}

TEST_F(TrainerTest, ATaskThatMiscountsItsTokensIsCaught) {
  Training<NaiveDdp> training(group_, options());
  training.task.promised_too_many = 1;
  EXPECT_THROW(training.trainer.step(), std::logic_error);
}

TEST_F(TrainerTest, OptionsAreChecked) {
  TrainerOptions bad = options();
  bad.clip_norm = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(Training<NaiveDdp>(group_, bad), UsageError);
  bad = options();
  bad.microbatches = 0;
  EXPECT_THROW(Training<NaiveDdp>(group_, bad), UsageError);
  bad = options();
  bad.schedule.peak = -1;
  EXPECT_THROW(Training<NaiveDdp>(group_, bad), UsageError);
}

TEST_F(TrainerTest, TheLedgerHearsOfThePhases) {
  MemoryLedger ledger;
  Training<NaiveDdp> training(group_, options(), &ledger);
  training.trainer.step();
  const MemoryReport report = ledger.report();
  const std::int64_t mine = kMicrobatches / group_->size();
  ASSERT_EQ(static_cast<std::int64_t>(report.phases.size()), 2 * mine + 2);
  EXPECT_EQ(report.phases[0].name, "forward");
  EXPECT_GT(report.phases[0].at_end[MemoryCategory::kActivations], 0);
  EXPECT_EQ(report.phases[1].at_end[MemoryCategory::kActivations], 0);
  EXPECT_EQ(report.phases.back().name, "optimizer");
}

TEST_F(TrainerTest, PartsOfAStepAreMeasuredAndSpansRecorded) {
  Trace trace(group_->rank(), "host");
  Training<CanonicalSync> training(group_, options(), nullptr, &trace);
  const double begin_us = steady_us();
  const StepResult result = training.trainer.step();
  const double wall_ms = (steady_us() - begin_us) / 1e3;
  for (const StepPart part : {kData, kForward, kBackward, kOptimizer}) {
    EXPECT_GT(result.ms[part], 0) << to_string(part);
  }
  EXPECT_LE(total_ms(result.ms), wall_ms);
  const std::string spans = trace.to_json();
  for (const char* name :
       {"data", "forward", "backward", "sync", "optimizer"}) {
    EXPECT_THAT(spans, HasSubstr(name));
  }
}

TEST_F(TrainerTest, ATraceOfALongTrainingStaysShort) {
  Trace trace(group_->rank(), "host");
  Training<NaiveDdp> training(group_, options(), nullptr, &trace);
  while (training.trainer.steps_done() < Trainer::kTracedSteps) {
    training.trainer.step();
  }
  const std::string spans = trace.to_json();
  training.trainer.step();
  EXPECT_EQ(trace.to_json(), spans);
}

}  // namespace
}  // namespace dai::intro
