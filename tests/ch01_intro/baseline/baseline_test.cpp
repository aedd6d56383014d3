// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/baseline/baseline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "ch01_intro/baseline/forward_latency.h"
#include "ch01_intro/baseline/paced_steps.h"
#include "ch01_intro/counter_random.h"
#include "ch01_intro/trainer/language_task.h"
#include "common/errors.h"
#include "common/torch/device.h"

namespace dai::intro {
namespace {

using ::testing::HasSubstr;

// A language that can be learnt: each token is the one before plus one, with
// an interruption every now and then.
TokenCorpus counting(std::int64_t vocab) {
  std::vector<std::int32_t> tokens(30000);
  for (std::size_t i = 1; i < tokens.size(); ++i) {
    const bool jump = mix64(i) % 16 == 0;
    tokens[i] = static_cast<std::int32_t>(
        (jump ? mix64(i + 7) : tokens[i - 1] + 1u) % vocab);
  }
  return TokenCorpus(tokens, {.vocab_size = vocab, .window = 16});
}

DecoderConfig tiny() {
  return {.name = "tiny",
          .vocab_size = 40,
          .hidden = 24,
          .layers = 2,
          .heads = 3,
          .kv_heads = 3,
          .ffn = 48,
          .max_positions = 16};
}

BaselineOptions options(std::int64_t steps) {
  return {.samples = 8,
          .microbatches = 2,
          .untimed_steps = 2,
          .validation_windows = 16,
          .trainer = {.schedule = {.peak = 1e-2, .total_steps = steps}}};
}

class BaselineTest : public ::testing::Test {
 protected:
  BaselineTest() { set_deterministic_threads(); }
  TokenCorpus corpus_ = counting(40);
  DecoderParts parts_{tiny()};
  Decoder decoder_{parts_};
};

TEST_F(BaselineTest, LearnsWhatCanBeLearntAndValidationAgrees) {
  const BaselineRun run =
      train_baseline(decoder_, corpus_, options(60), at::kCPU);
  EXPECT_EQ(run.steps.size(), 60u);
  EXPECT_LT(run.last_loss(), 0.6 * run.first_loss());
  EXPECT_LT(run.validation_after, 0.6 * run.validation_before);
  EXPECT_EQ(run.skipped_updates(), 0);
}

TEST_F(BaselineTest, PartsAddUpToTheStep) {
  const BaselineRun run =
      train_baseline(decoder_, corpus_, options(10), at::kCPU);
  double parts = 0;
  for (int part = 0; part < kStepParts; ++part) {
    parts += run.part_ms(static_cast<StepPart>(part)).mean;
  }
  EXPECT_NEAR(parts, run.step_ms().mean, 0.05 * run.step_ms().mean + 0.05);
  EXPECT_EQ(run.part_ms(kWire).max + run.part_ms(kWait).max, 0);
  EXPECT_GT(run.tokens_per_s(), 0);
  EXPECT_THAT(breakdown_table(run), HasSubstr("optimizer"));
  EXPECT_THAT(loss_table(run), HasSubstr("learning rate"));
}

TEST_F(BaselineTest, RefusesToTimeNothing) {
  EXPECT_THROW(train_baseline(decoder_, corpus_, options(2), at::kCPU),
               UsageError);
}

TEST_F(BaselineTest, ForwardLatencyHasARowForEachBatch) {
  const auto rows = measure_forward_latency(decoder_, corpus_, {1, 4},
                                            {.samples = 5}, at::kCPU);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[1].batch, 4);
  for (const LatencyRow& row : rows) {
    EXPECT_GT(row.p50_ms, 0);
    EXPECT_GE(row.p99_ms, row.p50_ms);
    EXPECT_NEAR(row.tokens_per_s * row.p50_ms / 1e3, 16.0 * row.batch, 1e-6);
  }
  EXPECT_THROW(measure_forward_latency(decoder_, corpus_, {}, {}, at::kCPU),
               UsageError);
}

// What the bench rests on: the peer reads the very windows that training sees.
TEST_F(BaselineTest, WindowsAreWrittenInTheOrderOfTraining) {
  BaselineOptions o = options(3);
  const std::string path = ::testing::TempDir() + "windows.i32";
  write_windows(corpus_, o, path);
  std::ifstream file(path, std::ios::binary);
  std::vector<std::int32_t> ids(3 * 2 * 8 * 17);
  file.read(reinterpret_cast<char*>(ids.data()),
            static_cast<std::streamsize>(ids.size() * sizeof(ids[0])));
  ASSERT_TRUE(file);
  EXPECT_EQ(file.peek(), std::ifstream::traits_type::eof());
  LanguageTask task(decoder_, corpus_, {.microbatches = 2, .samples = 8},
                    at::kCPU);
  const std::int32_t* row = ids.data();
  for (std::int64_t step = 0; step < 3; ++step) {
    for (std::int64_t id = 0; id < 2; ++id) {
      task.load(step, id);
      for (std::int64_t sample = 0; sample < 8; ++sample, row += 17) {
        for (std::int64_t i = 0; i < 16; ++i) {
          ASSERT_EQ(row[i], task.inputs()[sample][i].item<std::int64_t>());
          ASSERT_EQ(row[i + 1], task.targets()[sample][i].item<std::int64_t>());
        }
      }
    }
  }
  std::filesystem::remove(path);
}

TEST_F(BaselineTest, PacedStepsAnswerEachLine) {
  std::istringstream in("2\n1\n");
  std::ostringstream out;
  BaselineOptions o = options(3);
  o.trainer.schedule = {.peak = 1e-2, .total_steps = 1, .floor_fraction = 1};
  EXPECT_EQ(serve_paced_steps(decoder_, corpus_, o, at::kCPU, in, out), 3);
  DecoderParts parts(tiny());
  const Decoder again(parts);
  o.trainer.schedule.total_steps = 3;
  const BaselineRun run = train_baseline(again, corpus_, o, at::kCPU);
  std::istringstream lines(out.str());
  std::string line;
  std::getline(lines, line);
  EXPECT_EQ(nlohmann::json::parse(line)["decoder"]["kv_heads"], 3);
  std::getline(lines, line);
  EXPECT_EQ(nlohmann::json::parse(line)["step_ms"].size(), 2u);
  std::getline(lines, line);
  EXPECT_EQ(nlohmann::json::parse(line)["loss"], run.last_loss());
  std::istringstream wrong("three\n");
  EXPECT_THROW(serve_paced_steps(decoder_, corpus_, o, at::kCPU, wrong, out),
               UsageError);
}

}  // namespace
}  // namespace dai::intro
