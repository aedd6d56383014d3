// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/first_run/one_against_all.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <string>
#include <thread>

#include "ch01_intro/counter_random.h"
#include "ch01_intro/first_run/rank0_alone.h"
#include "ch01_intro/first_run/same_tokens.h"
#include "common/errors.h"
#include "common/timer.h"
#include "common/torch/device.h"
#include "common/trace.h"
#include "tests/support/distributed_test.h"

namespace dai::intro {
namespace {

using ::testing::HasSubstr;

// A language of 24 words in which one word mostly follows from the last.
std::vector<std::int32_t> babble(std::int64_t count) {
  std::vector<std::int32_t> tokens{0};
  const std::uint64_t key = stream_key(1234, "babble");
  while (static_cast<std::int64_t>(tokens.size()) < count) {
    const std::uint64_t draw = mix64(key + tokens.size());
    tokens.push_back(draw % 4 == 0 ? draw / 4 % 24
                                   : (5 * tokens.back() + 7) % 24);
  }
  return tokens;
}

DecoderConfig small_decoder() {
  return {.name = "test",
          .vocab_size = 24,
          .hidden = 48,
          .layers = 2,
          .heads = 12,
          .kv_heads = 6,
          .ffn = 36,
          .max_positions = 16};
}

class OneAgainstAllTest : public ::testing::Test {
 protected:
  OneAgainstAllTest() {
    set_deterministic_threads();
    options_.decoder = small_decoder();
    options_.steps = 6;
    options_.microbatch_size = 3;
    options_.learning_rate = 0.02;
  }
  OneAgainstAll train(Reduction reduction, Trace* trace = nullptr) {
    return train_one_against_all(testing::group(), corpus_, options_, reduction,
                                 trace);
  }
  const TokenCorpus corpus_{
      babble(10000), {.vocab_size = 24, .window = 11, .chunk_windows = 8}};
  FirstRunOptions options_;
};

TEST_F(OneAgainstAllTest, ManyRanksAreOneRankBitForBit) {
  for (const DecoderOps* ops : {&naive_ops(), &fused_ops()}) {
    options_.ops = ops;
    const OneAgainstAll both = train(Reduction::kCanonical);
    EXPECT_EQ(both.max_loss_difference, 0) << ops->name;
    EXPECT_EQ(both.one_rank_loss, both.all_ranks_loss) << ops->name;
    EXPECT_EQ(both.validation_loss_difference, 0) << ops->name;
    EXPECT_EQ(both.max_parameter_difference, 0) << ops->name;
    EXPECT_EQ(both.bits_off_one_rank, 0) << ops->name;
    EXPECT_EQ(both.bits_off_rank0, 0) << ops->name;
    EXPECT_EQ(both.all_ranks_loss.size(), 6u) << ops->name;
    // It knew nothing and has learnt something, on held-back text too.
    EXPECT_NEAR(both.first_to_blind_loss(), 1, 0.05) << ops->name;
    EXPECT_LT(both.last_to_blind_loss(), 0.95) << ops->name;
    EXPECT_LT(both.all_ranks_validation_loss, 0.95 * std::log(24)) << ops->name;
  }
}

// Otherwise the test above could not tell a seed from a constant.
TEST_F(OneAgainstAllTest, AnotherSeedIsAnotherTraining) {
  options_.steps = 1;
  const OneAgainstAll one = train(Reduction::kAllReduce);
  options_.seed = 4321;
  EXPECT_NE(one.one_rank_loss, train(Reduction::kAllReduce).one_rank_loss);
}

TEST_F(OneAgainstAllTest, NaiveDdpAgreesUpToRounding) {
  const OneAgainstAll both = train(Reduction::kAllReduce);
  EXPECT_LT(both.max_loss_difference, 1e-4);
  EXPECT_LT(both.validation_loss_difference, 1e-4);
  EXPECT_EQ(both.bits_off_rank0, 0);
}

TEST_F(OneAgainstAllTest, WhatEachPartLosesAddsUpToTheStep) {
  const OneAgainstAll both = train(Reduction::kCanonical);
  double lost = 0;
  for (int part = 0; part < kStepParts; ++part) {
    lost += both.scaling.all_ranks[part] -
            both.scaling.one_rank[part] / testing::group().size();
  }
  EXPECT_NEAR(lost,
              total_ms(both.scaling.all_ranks) -
                  total_ms(both.scaling.one_rank) / testing::group().size(),
              1e-9);
  for (const StepPart part : {kData, kForward, kBackward, kOptimizer}) {
    EXPECT_GT(both.scaling.all_ranks[part], 0) << to_string(part);
  }
  EXPECT_EQ(both.tokens_per_step, 12 * 3 * 11);
}

TEST_F(OneAgainstAllTest, OnlyTheCommonRunIsTraced) {
  Trace trace(testing::group().rank(), "host");
  train(Reduction::kCanonical, &trace);
  const std::string json = trace.to_json();
  for (const char* name :
       {"data", "forward", "backward", "sync", "optimizer"}) {
    EXPECT_THAT(json, HasSubstr(name));
  }
  int steps = 0;
  for (std::size_t at = 0; (at = json.find("\"optimizer\"", at)) != json.npos;
       ++at) {
    ++steps;
  }
  EXPECT_EQ(steps, 6);
}

TEST_F(OneAgainstAllTest, DivergenceIsADifferenceNotASuccess) {
  options_.steps = 5;
  options_.learning_rate = 1e38;  // NaN within a few steps
  const OneAgainstAll both = train(Reduction::kCanonical);
  EXPECT_TRUE(std::isinf(both.max_loss_difference));
  EXPECT_TRUE(std::isnan(both.last_to_blind_loss()));
}

TEST_F(OneAgainstAllTest, WhatDoesNotFitIsRefusedBeforeAnybodyWaits) {
  const auto refused = [&](const char* why) {
    try {
      options_.check(corpus_, testing::group().size());
      ADD_FAILURE() << "accepted: " << why;
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), HasSubstr(why));
    }
  };
  options_.check(corpus_, testing::group().size());
  options_.decoder.max_positions = 10;
  refused("windows of 11 tokens");
  options_.decoder.max_positions = 16;
  options_.decoder.vocab_size = 23;
  refused("vocabulary of 23");
  options_.decoder.vocab_size = 24;
  options_.learning_rate = 0;
  refused("rate");
  options_.learning_rate = 0.02;
  options_.microbatches = 12 * testing::group().size() + 1;
  if (testing::group().size() > 1) refused("cannot be shared evenly");
}

TEST(SameTokens, AHashSeesEveryChange) {
  const std::vector<std::int32_t> tokens = babble(100);
  std::vector<std::int32_t> other = tokens;
  EXPECT_EQ(hash_of_tokens(tokens), hash_of_tokens(other));
  other.push_back(0);
  EXPECT_NE(hash_of_tokens(tokens), hash_of_tokens(other));
  other = tokens;
  other[42] ^= 1;
  EXPECT_NE(hash_of_tokens(tokens), hash_of_tokens(other));
  other = tokens;
  std::swap(other[0], other[1]);
  EXPECT_NE(hash_of_tokens(tokens), hash_of_tokens(other));
}

TEST(SameTokens, ARankWithAnotherTextIsNamedOnEveryRank) {
  ProcessGroup& group = testing::group();
  require_same_tokens(group, babble(100));
  if (group.size() == 1) return;
  const bool last = group.rank() == group.size() - 1;
  try {
    require_same_tokens(group, babble(last ? 101 : 100));
    FAIL() << "another text went unseen";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("rank 0 has 100 tokens"));
    EXPECT_THAT(error.what(),
                HasSubstr("rank " + std::to_string(group.size() - 1) +
                          " has 101 tokens"));
  }
}

TEST(Rank0Alone, TheOthersWaitUntilItIsDone) {
  ProcessGroup& group = testing::group();
  using std::chrono::milliseconds;
  const double begin_us = steady_us();
  bool worked = false;
  on_rank0_alone(group, [&](const Heartbeat& beat) {
    for (int i = 0; i < 10; ++i) {
      std::this_thread::sleep_for(milliseconds(50));
      beat();
    }
    worked = true;
  });
  EXPECT_EQ(worked, group.rank() == 0);
  EXPECT_GE(steady_us() - begin_us, 0.4e6);
}

}  // namespace
}  // namespace dai::intro
