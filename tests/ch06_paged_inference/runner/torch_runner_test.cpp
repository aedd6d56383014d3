// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/runner/torch_runner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>

#include "ch06_paged_inference/engine/engine.h"
#include "ch06_paged_inference/model_file/gguf_model.h"
#include "common/file.h"
#include "tests/ch06_paged_inference/support/tiny_model.h"
#include "tests/common/temp_folder.h"

namespace dai::paged {
namespace {

class TorchRunners : public TempFolder {
 protected:
  void SetUp() override {
    TempFolder::SetUp();
    config_ = {.name = "tiny",
               .vocab_size = 40,
               .hidden = 24,
               .layers = 3,
               .heads = 6,
               .kv_heads = 2,
               .ffn = 36,
               .max_positions = 256,
               .rope_theta = 100,
               .norm_eps = 1e-5};
    Weights weights = tiny_weights(config_);
    for (auto& [name, values] : weights) {
      for (float& value : values) value /= 4;
    }
    GgufWriter file = tiny_gguf(config_, weights);
    GgufBytes divisors;
    divisors.number(1.0F).number(
        3.0F);  // the scaling of angles is used as well
    file.tensor("rope_freqs.weight", {2}, 0, divisors.text());
    write_file_atomically(folder_ / "m.gguf", file.bytes());
    model_ = open_model(folder_ / "m.gguf");
  }

  struct Answer {
    std::vector<std::int32_t> tokens;
    std::vector<float> logprobs;
  };
  struct Setup {
    TorchRunnerOptions runner{
        .kv_blocks = 64, .block_size = 4, .one_row = true};
    std::int64_t step_tokens = 64;
    bool caching = true, asynchronous = false, alone = false;
    int preempt_every = 0;
  };

  // Five requests, alone or together, greedy and drawn.
  std::map<std::int64_t, Answer> answers(const Setup& setup) {
    TorchRunner runner(*model_, setup.runner);
    EngineOptions options;
    options.scheduler.max_step_tokens = setup.step_tokens;
    options.scheduler.prefix_caching = setup.caching;
    options.asynchronous = setup.asynchronous;
    options.check_ledger = true;
    Engine engine(options, runner);
    std::map<std::int64_t, Answer> all;
    int steps = 0;
    const auto finish = [&] {
      while (engine.step()) {
        if (setup.preempt_every > 0 && ++steps % setup.preempt_every == 0) {
          engine.scheduler().preempt_last();
        }
      }
    };
    for (std::int32_t i = 0; i < 5; ++i) {
      Request request;
      for (std::int32_t k = 0; k < 9 + 5 * (i % 3); ++k) {
        request.prompt.push_back(k < 8 ? k * 3 % 40 : (k * 7 + i) % 40);
      }
      request.sampling = {.temperature = i % 2 == 0 ? 0.0 : 0.9,
                          .seed = 5,
                          .logprobs = 0,
                          .max_tokens = 12};
      request.on_output = [&](const Output& output) {
        Answer& answer = all[output.request];
        EXPECT_EQ(output.error, "");
        answer.tokens.insert(answer.tokens.end(), output.tokens.begin(),
                             output.tokens.end());
        for (const TokenLogprob& token : output.logprobs) {
          answer.logprobs.push_back(token.logprob);
        }
      };
      prompts_[i] = request.prompt;
      engine.submit(request);
      if (setup.alone) finish();
    }
    finish();
    EXPECT_EQ(all.size(), 5U);
    return all;
  }

  // In one pass over the whole text.
  double off_naive(const std::map<std::int64_t, Answer>& all) {
    const TorchRunner runner(*model_, {.kv_blocks = 2});
    double off = 0;
    for (const auto& [request, answer] : all) {
      std::vector<std::int32_t> text = prompts_.at(request);
      const auto first = std::ssize(text);
      text.insert(text.end(), answer.tokens.begin(), answer.tokens.end());
      const std::vector<float> naive = runner.naive_logprobs(text, first);
      EXPECT_EQ(naive.size(), answer.logprobs.size());
      for (std::size_t i = 0; i < naive.size(); ++i) {
        off = std::max<double>(off, std::abs(naive[i] - answer.logprobs[i]));
      }
    }
    return off;
  }

  intro::DecoderConfig config_;
  std::unique_ptr<ModelFile> model_;
  std::map<std::int64_t, std::vector<std::int32_t>> prompts_;
};

TEST_F(TorchRunners, LogitsAreThoseOfOnePassOverTheText) {
  for (const bool one_row : {true, false}) {
    for (const std::int64_t tokens : {3, 64}) {
      Setup setup;
      setup.runner.one_row = one_row;
      setup.step_tokens = tokens;
      EXPECT_LT(off_naive(answers(setup)), 1e-4);
    }
  }
}

// Not one bit of an answer depends on its company, on chunks, on what is
// cached, on preemption, or on when steps are planned.
TEST_F(TorchRunners, OneRowAtATimeNothingElseMatters) {
  Setup alone;
  alone.alone = true;
  alone.caching = false;
  const std::map<std::int64_t, Answer> expected = answers(alone);
  EXPECT_LT(off_naive(expected), 1e-4);
  std::vector<Setup> others(7);
  others[1].step_tokens = 1;
  others[2].step_tokens = 7;
  others[3].caching = false;
  others[4].preempt_every = 3;
  others[5].asynchronous = true;
  others[6].runner.kv_blocks = 14;  // preemption by itself
  for (std::size_t i = 0; i < others.size(); ++i) {
    const std::map<std::int64_t, Answer> got = answers(others[i]);
    for (const auto& [request, answer] : expected) {
      EXPECT_EQ(got.at(request).tokens, answer.tokens) << i;
      EXPECT_EQ(got.at(request).logprobs, answer.logprobs) << i;
    }
  }
}

// A file may claim any length: angles are made for what the blocks can hold.
TEST_F(TorchRunners, AClaimedLengthCostsNothing) {
  config_.max_positions = std::int64_t{1} << 40;
  write_tiny_hf(folder_ / "m", config_, tiny_weights(config_), false);
  const TorchRunner runner(*open_model(folder_ / "m"),
                           {.kv_blocks = 8, .block_size = 4});
  EXPECT_EQ(runner.max_positions(), 32);
}

TEST_F(TorchRunners, HalfTheBytesForKeysAndValues) {
  Setup setup;
  setup.runner.kv_dtype = c10::ScalarType::BFloat16;
  const double off = off_naive(answers(setup));
  EXPECT_LT(off, 0.05);
  EXPECT_GT(off, 0);
  const TorchRunner full(*model_, {.kv_blocks = 8});
  const TorchRunner half(
      *model_, {.kv_blocks = 8, .kv_dtype = c10::ScalarType::BFloat16});
  EXPECT_EQ(full.kv_bytes(), 2 * half.kv_bytes());
  // 3 layers, keys and values, 2 heads of 4, float32, 8 blocks of 16.
  EXPECT_EQ(full.kv_bytes(), 3 * 2 * 2 * 4 * 4 * 8 * 16);
}

}  // namespace
}  // namespace dai::paged
