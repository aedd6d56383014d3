// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <stdexcept>

#include "common/errors.h"
#include "tests/common/temp_folder.h"

#include "ch06_paged_inference/engine/logits_processor.h"

namespace dai::paged {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr float kNever = -std::numeric_limits<float>::infinity();

// What comes after `tokens`, of which `prompt` are the prompt, over many
// positions of a request's stream: the share of each token.
class Draws {
 public:
  explicit Draws(SamplingParams params, std::vector<std::int32_t> tokens = {0},
                 std::size_t prompt = 1) {
    Request request;
    request.prompt.assign(tokens.begin(), tokens.begin() + prompt);
    params.max_tokens = 1 << 20;
    request.sampling = params;
    sequence_.asked = std::make_shared<const Request>(request);
    sequence_.tokens = std::move(tokens);
  }

  TokenLogprob once(std::vector<float> logits, std::int64_t request = 0,
                    std::int64_t index = 0,
                    std::vector<std::int32_t> ends = {}) {
    Sampler sampler(std::ssize(logits), 1234);
    sequence_.request = request;
    sequence_.index = index;
    return sampler.draw(sequence_, logits, ends);
  }
  std::map<std::int32_t, double> shares(const std::vector<float>& logits,
                                        int n = 20000) {
    std::map<std::int32_t, double> shares;
    for (int i = 0; i < n; ++i) shares[once(logits, i).token] += 1.0 / n;
    return shares;
  }

 private:
  Sequence sequence_;
};

const std::vector<float> kLogits{std::log(0.5F), std::log(0.3F),
                                 std::log(0.15F), std::log(0.05F)};

TEST(Sampler, ZeroTemperatureTakesTheFirstOfTheLikeliest) {
  Draws draws({.temperature = 0});
  EXPECT_EQ(draws.once({1, 3, 3, 2}).token, 1);
}

TEST(Sampler, DrawsByProbability) {
  auto shares = Draws({}).shares(kLogits);
  EXPECT_NEAR(shares[0], 0.5, 0.015);
  EXPECT_NEAR(shares[1], 0.3, 0.015);
  EXPECT_NEAR(shares[2], 0.15, 0.01);
  EXPECT_NEAR(shares[3], 0.05, 0.01);
  // Temperature 2: square roots of these, renormalised.
  const double sum =
      std::sqrt(0.5) + std::sqrt(0.3) + std::sqrt(0.15) + std::sqrt(0.05);
  shares = Draws({.temperature = 2}).shares(kLogits);
  EXPECT_NEAR(shares[3], std::sqrt(0.05) / sum, 0.015);
}

TEST(Sampler, OnlyAmongTheLikely) {
  const auto among = [](const SamplingParams& params) {
    std::set<std::int32_t> tokens;
    for (const auto& [token, share] : Draws(params).shares(kLogits, 3000)) {
      tokens.insert(token);
    }
    return tokens;
  };
  EXPECT_THAT(among({.top_k = 2}), ElementsAre(0, 1));
  EXPECT_THAT(among({.top_k = 9}), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(among({.top_p = 0.5}), ElementsAre(0));
  EXPECT_THAT(among({.top_p = 0.51}), ElementsAre(0, 1));
  EXPECT_THAT(among({.top_p = 0.9}), ElementsAre(0, 1, 2));
  EXPECT_THAT(among({.min_p = 0.2}), ElementsAre(0, 1, 2));
  EXPECT_THAT(among({.min_p = 1}), ElementsAre(0));
  // top_p is of what top_k left: 0.5 / 0.8 = 0.625.
  EXPECT_THAT(among({.top_k = 2, .top_p = 0.6}), ElementsAre(0));
  const auto kept = Draws({.top_k = 2}).shares(kLogits);
  EXPECT_NEAR(kept.at(0), 0.625, 0.015);
}

TEST(Sampler, ALargeVocabularyIsCutTheSameWay) {
  std::vector<float> logits(5000);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    logits[i] = static_cast<float>((i * 2654435761U) % 5000) / 1000;
  }
  // Reference: sorted, summed up to 0.3.
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(
      order.begin(), order.end(),
      [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  double sum = 0, reached = 0;
  for (const float logit : logits) sum += std::exp(logit);
  std::set<std::int32_t> kept;
  for (const std::size_t i : order) {
    if (reached >= 0.3 * sum) break;
    reached += std::exp(logits[i]);
    kept.insert(static_cast<std::int32_t>(i));
  }
  ASSERT_GT(kept.size(), 100U);
  Draws draws({.top_p = 0.3});
  std::set<std::int32_t> seen;
  for (int i = 0; i < 5000; ++i) seen.insert(draws.once(logits, i).token);
  EXPECT_TRUE(
      std::includes(kept.begin(), kept.end(), seen.begin(), seen.end()));
  EXPECT_GT(seen.size(), kept.size() / 2);
}

TEST(Sampler, Penalties) {
  // Prompt 0, output 1 1: logits show through greedy comparisons.
  const auto greedy = [](SamplingParams params, std::vector<float> logits) {
    params.temperature = 0;
    return Draws(params, {0, 1, 1}, 1).once(std::move(logits)).token;
  };
  // Occurred in prompt or output: positive divided, negative multiplied.
  EXPECT_EQ(greedy({.repetition_penalty = 2}, {3.9F, 3.9F, 2, 0}), 2);
  EXPECT_EQ(greedy({.repetition_penalty = 2}, {4.1F, 3.9F, 2, 0}), 0);
  EXPECT_EQ(greedy({.repetition_penalty = 2}, {-2, -2, -3.9F, -5}), 2);
  // Only the output's, once for being there, and for each time.
  EXPECT_EQ(greedy({.presence_penalty = 1}, {2, 3.5F, 0, 0}), 1);
  EXPECT_EQ(greedy({.presence_penalty = 1}, {2, 2.9F, 0, 0}), 0);
  EXPECT_EQ(greedy({.frequency_penalty = 1}, {2, 3.9F, 0, 0}), 0);
  EXPECT_EQ(greedy({.frequency_penalty = 1}, {2, 4.1F, 0, 0}), 1);
  EXPECT_EQ(greedy({.logit_bias = {{3, 5}}}, {2, 4.1F, 0, 0}), 3);
}

TEST(Sampler, MinTokensForbidsTheEnd) {
  Draws draws({.temperature = 0, .stop_ids = {2}, .min_tokens = 3}, {0, 1, 1},
              1);
  EXPECT_EQ(draws.once({0, 1, 3, 4}, 0, 0, {3}).token, 1);
  Draws done({.temperature = 0, .stop_ids = {2}, .min_tokens = 2}, {0, 1, 1},
             1);
  EXPECT_EQ(done.once({0, 1, 3, 4}, 0, 0, {3}).token, 3);
}

TEST(Sampler, LogprobsAreTheModels) {
  Draws draws({.temperature = 0, .logit_bias = {{2, 50}}, .logprobs = 2});
  const TokenLogprob drawn = draws.once(kLogits);
  EXPECT_EQ(drawn.token, 2);  // by the bias, which the numbers do not show
  EXPECT_NEAR(drawn.logprob, std::log(0.15), 1e-6);
  ASSERT_EQ(drawn.best.size(), 2U);
  EXPECT_EQ(drawn.best[0].first, 0);
  EXPECT_NEAR(drawn.best[1].second, std::log(0.3), 1e-6);
}

TEST(Sampler, ASeedIsAStreamOfItsOwn) {
  const auto stream = [](std::optional<std::uint64_t> seed,
                         std::int64_t request, std::int64_t index) {
    std::vector<std::int32_t> tokens{0}, drawn;
    for (int i = 0; i < 20; ++i) {
      Draws draws({.seed = seed}, tokens, 1);
      drawn.push_back(draws.once(kLogits, request, index).token);
      tokens.push_back(drawn.back());
    }
    return drawn;
  };
  EXPECT_EQ(stream(7, 0, 0), stream(7, 5, 0));  // whatever number it has
  EXPECT_NE(stream(7, 0, 0), stream(8, 0, 0));
  EXPECT_NE(stream(7, 0, 0), stream(7, 0, 1));
  EXPECT_NE(stream({}, 0, 0), stream({}, 1, 0));
}

class Ban : public LogitsProcessor {
 public:
  void process(const Sequence&, std::span<float> logits) override {
    logits[0] = kNever;
  }
};

TEST(Sampler, ProcessorsComeFirst) {
  Draws draws({.temperature = 0, .processors = {std::make_shared<Ban>()}});
  EXPECT_EQ(draws.once(kLogits).token, 1);
}

TEST(Sampler, LogitsThatSayNothingAreAnError) {
  Draws draws({});
  EXPECT_THROW(draws.once({0, std::nanf(""), 0, 0}), std::runtime_error);
  EXPECT_THROW(draws.once({kNever, kNever}), std::runtime_error);
  Draws banned({.processors = {std::make_shared<Ban>()}});
  EXPECT_THROW(banned.once({0, kNever}), std::runtime_error);
  EXPECT_EQ(draws.once({kNever, 0, kNever}).token, 1);
}

TEST(SamplingParams, WhatDoesNotFitIsNamed) {
  const auto refused = [](const SamplingParams& params) {
    return message_of<UsageError>([&] { params.check(4); });
  };
  EXPECT_NO_THROW(SamplingParams{}.check(4));
  EXPECT_THAT(refused({.temperature = -1}), HasSubstr("temperature"));
  EXPECT_THAT(refused({.temperature = NAN}), HasSubstr("temperature"));
  EXPECT_THAT(refused({.top_k = -2}), HasSubstr("top_k"));
  EXPECT_THAT(refused({.top_p = 1.5}), HasSubstr("top_p"));
  EXPECT_THAT(refused({.min_p = -0.1}), HasSubstr("min_p"));
  EXPECT_THAT(refused({.repetition_penalty = 0}), HasSubstr("repetition"));
  EXPECT_THAT(refused({.presence_penalty = 3}), HasSubstr("presence"));
  EXPECT_THAT(refused({.frequency_penalty = -3}), HasSubstr("frequency"));
  EXPECT_THAT(refused({.logit_bias = {{4, 0}}}), HasSubstr("logit_bias"));
  EXPECT_THAT(refused({.logprobs = 5}), HasSubstr("logprobs"));
  EXPECT_THAT(refused({.stop = {""}}), HasSubstr("stop"));
  EXPECT_THAT(refused({.stop_ids = {-1}}), HasSubstr("stop_token_ids"));
  EXPECT_THAT(refused({.min_tokens = 17}), HasSubstr("min_tokens"));
  EXPECT_THAT(refused({.max_tokens = 0}), HasSubstr("max_tokens"));
  EXPECT_THAT(refused({.n = 0}), HasSubstr("n: 1 to 256"));
}

}  // namespace
}  // namespace dai::paged
