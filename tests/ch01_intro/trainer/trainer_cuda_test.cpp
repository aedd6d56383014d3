// SPDX-License-Identifier: Apache-2.0

// A few steps of a small decoder on CUDA against the same steps on the CPU:
// task, trainer, gradients, norm, AdamW and evaluation, wherever they run.

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "ch01_intro/counter_random.h"
#include "ch01_intro/sync/naive_ddp.h"
#include "ch01_intro/trainer/language_task.h"
#include "ch01_intro/trainer/trainer.h"
#include "common/torch/device.h"
#include "tests/support/distributed_test.h"

namespace dai::intro {
namespace {

const bool kNeedsCuda = dai::testing::need_cuda();

constexpr std::int64_t kSteps = 4;
constexpr LanguageTaskOptions kTask{.microbatches = 2, .samples = 3};

at::Device cuda() {
  return choose_device("cuda", dai::testing::launch());
}

DecoderConfig config() {
  DecoderConfig config = decoder_config("nano-1m");
  config.layers = 2;
  config.kv_heads = 4;  // grouped queries take a way of their own on CUDA
  return config;
}

TokenCorpus corpus() {
  std::vector<std::int32_t> tokens(4000);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    // Uneven frequencies, or there is nothing to learn.
    const std::uint64_t draw = mix64(i) % 64;
    tokens[i] = static_cast<std::int32_t>(draw * draw % 61);
  }
  return {tokens,
          {.vocab_size = config().vocab_size,
           .window = 24,
           .chunk_windows = 4,
           .validation_every = 4}};
}

struct Training {
  std::vector<StepResult> steps;
  double validation = 0;
};

Training train(at::Device device, const DecoderOps& ops, Precision precision) {
  DecoderParts parts(config(), {.seed = 1234, .device = device, .ops = &ops});
  const Decoder decoder(parts);
  const TokenCorpus text = corpus();
  LanguageTask task(decoder, text, kTask, device);
  NaiveDdp sync(decoder.parameters(), kTask.microbatches, nullptr);
  WholeParameters view(decoder.parameters());
  TrainerOptions options;
  options.microbatches = kTask.microbatches;
  options.schedule = {.peak = 1e-3, .warmup_steps = 1, .total_steps = kSteps};
  options.clip_norm = 0.25;
  options.precision = precision;
  Trainer trainer(task, sync, view, nullptr, options, device);
  Training result;
  while (trainer.steps_done() < kSteps) result.steps.push_back(trainer.step());
  result.validation =
      evaluate(task, kTask.microbatches, nullptr, precision, device);
  return result;
}

void expect_the_cpus_training(const DecoderOps& ops, Precision precision,
                              double within) {
  const Training cpu = train(at::kCPU, ops, precision);
  const Training gpu = train(cuda(), ops, precision);
  for (std::int64_t step = 0; step < kSteps; ++step) {
    EXPECT_TRUE(gpu.steps[step].updated) << gpu.steps[step].reason;
    EXPECT_NEAR(gpu.steps[step].loss, cpu.steps[step].loss,
                within * cpu.steps[step].loss)
        << ops.name << ", step " << step;
    EXPECT_NEAR(gpu.steps[step].gradient_norm, cpu.steps[step].gradient_norm,
                10 * within * cpu.steps[step].gradient_norm)
        << ops.name << ", step " << step;
  }
  EXPECT_GT(cpu.steps[0].gradient_norm, 0.25) << "nothing was clipped";
  EXPECT_NEAR(gpu.validation, cpu.validation, within * cpu.validation);
}

TEST(TrainerCuda, NaiveRungIsTheCpus) {
  expect_the_cpus_training(naive_ops(), Precision::kFp32, 1e-3);
}

TEST(TrainerCuda, FusedRungIsTheCpus) {
  expect_the_cpus_training(fused_ops(), Precision::kFp32, 1e-3);
}

TEST(TrainerCuda, FusedRungInBfloatIsTheCpus) {
  expect_the_cpus_training(fused_ops(), Precision::kBf16, 0.02);
}

// The task writes the next microbatch where the device fetched this one from.
TEST(LanguageTaskCuda, LoadedTokensStayWhatTheyWere) {
  DecoderParts parts(config(), {.seed = 1234, .device = cuda()});
  const Decoder decoder(parts);
  const TokenCorpus text = corpus();
  LanguageTask task(decoder, text, kTask, cuda());
  std::vector<at::Tensor> inputs, targets;
  for (std::int64_t id = 0; id < 64; ++id) {
    task.load(id / kTask.microbatches, id % kTask.microbatches);
    inputs.push_back(task.inputs());
    targets.push_back(task.targets());
  }
  for (std::int64_t id = 0; id < 64; ++id) {
    const at::Tensor i = at::empty({kTask.samples, text.window()}, at::kLong);
    const at::Tensor t = at::empty_like(i);
    const auto n = static_cast<std::size_t>(i.numel());
    text.fill({.step = id / kTask.microbatches,
               .microbatch = id % kTask.microbatches,
               .microbatches = kTask.microbatches,
               .samples = kTask.samples},
              {i.data_ptr<std::int64_t>(), n}, {t.data_ptr<std::int64_t>(), n});
    EXPECT_TRUE(inputs[id].cpu().equal(i)) << id;
    EXPECT_TRUE(targets[id].cpu().equal(t)) << id;
  }
}

}  // namespace
}  // namespace dai::intro
