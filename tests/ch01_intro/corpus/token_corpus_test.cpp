// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/corpus/token_corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <stdexcept>
#include <vector>

#include "common/errors.h"

namespace dai::intro {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr std::int64_t kTokens = 5000;

// Token = position, so that what is read shows where it stood.
std::vector<std::int32_t> counting(std::int64_t size = kTokens) {
  std::vector<std::int32_t> tokens(size);
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}

TokenCorpusOptions options() {
  return {.vocab_size = kTokens,
          .window = 7,
          .chunk_windows = 5,
          .validation_every = 4,
          .seed = 1234};
}

std::set<std::int64_t> tokens_of(const TokenCorpus& corpus, CorpusSplit split) {
  std::set<std::int64_t> seen;
  for (std::int64_t i = 0; i < corpus.windows(split); ++i) {
    const std::int64_t begin = corpus.window_begin(split, i);
    for (std::int64_t t = begin; t <= begin + corpus.window(); ++t) {
      seen.insert(t);
    }
  }
  return seen;
}

TEST(TokenCorpus, SplitsShareNoToken) {
  const TokenCorpus corpus(counting(), options());
  const auto train = tokens_of(corpus, CorpusSplit::kTrain);
  const auto validation = tokens_of(corpus, CorpusSplit::kValidation);
  std::vector<std::int64_t> both;
  std::set_intersection(train.begin(), train.end(), validation.begin(),
                        validation.end(), std::back_inserter(both));
  EXPECT_TRUE(both.empty());
  EXPECT_LT(*train.rbegin(), kTokens);
  EXPECT_LT(*validation.rbegin(), kTokens);
  // 5000 tokens are 138 chunks of 36, of which each fourth is held back.
  EXPECT_EQ(corpus.windows(CorpusSplit::kValidation), 34 * 5);
  EXPECT_EQ(corpus.windows(CorpusSplit::kTrain), 104 * 5);
  EXPECT_EQ(train.size() + validation.size(), 138U * 36);
}

TEST(TokenCorpus, TargetsAreTheNextTokens) {
  const TokenCorpus corpus(counting(), options());
  std::vector<std::int64_t> inputs(3 * 7), targets(3 * 7);
  const TokenCorpus::Request request{
      .step = 11, .microbatch = 2, .microbatches = 4, .samples = 3};
  corpus.fill(request, inputs, targets);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_EQ(targets[i], inputs[i] + 1) << i;
  }
  for (std::int64_t sample = 0; sample < 3; ++sample) {
    EXPECT_EQ(inputs[7 * sample],
              corpus.window_begin(CorpusSplit::kTrain,
                                  corpus.window_of(request, sample)));
  }
}

// Microbatches of 1, 2, 3 and 4 ranks together are the same global batch.
TEST(TokenCorpus, EveryWorldSizeSeesTheSameGlobalBatch) {
  const TokenCorpus corpus(counting(), options());
  const auto batch = [&](std::int64_t ranks) {
    std::vector<std::int64_t> windows;
    for (std::int64_t rank = 0; rank < ranks; ++rank) {
      for (std::int64_t id = 12 / ranks * rank; id < 12 / ranks * (rank + 1);
           ++id) {
        for (std::int64_t sample = 0; sample < 2; ++sample) {
          windows.push_back(corpus.window_of(
              {.step = 5, .microbatch = id, .microbatches = 12, .samples = 2},
              sample));
        }
      }
    }
    return windows;
  };
  EXPECT_EQ(batch(1).size(), 24U);
  for (const std::int64_t ranks : {2, 3, 4}) EXPECT_EQ(batch(ranks), batch(1));
}

TEST(TokenCorpus, AnEpochReadsEachWindowOnceAndEachEpochInAnotherOrder) {
  const TokenCorpus corpus(counting(), options());
  const std::int64_t count = corpus.windows(CorpusSplit::kTrain);  // 520
  std::vector<std::int64_t> order;
  for (std::int64_t step = 0; step < 2 * count / 10; ++step) {
    for (std::int64_t id = 0; id < 5; ++id) {
      for (std::int64_t sample = 0; sample < 2; ++sample) {
        order.push_back(corpus.window_of(
            {.step = step, .microbatch = id, .microbatches = 5, .samples = 2},
            sample));
      }
    }
  }
  ASSERT_EQ(static_cast<std::int64_t>(order.size()), 2 * count);
  const std::vector<std::int64_t> first(order.begin(), order.begin() + count);
  const std::vector<std::int64_t> second(order.begin() + count, order.end());
  EXPECT_NE(first, second);
  for (const auto& epoch : {first, second}) {
    const std::set<std::int64_t> distinct(epoch.begin(), epoch.end());
    EXPECT_EQ(static_cast<std::int64_t>(distinct.size()), count);
  }
  TokenCorpusOptions other = options();
  other.seed = 1235;
  const TokenCorpus reseeded(counting(), other);
  int same = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    same +=
        reseeded.window_of({.step = i}, 0) == corpus.window_of({.step = i}, 0);
  }
  EXPECT_LT(same, count / 10);
}

// The first windows of an evaluation come from all over the text, and are the
// same ones whatever the seed of the run that they judge.
TEST(TokenCorpus, ValidationIsSpreadOverTheTextAndTheSameForEverySeed) {
  const TokenCorpus corpus(counting(), options());
  TokenCorpusOptions other = options();
  other.seed = 1235;
  const TokenCorpus reseeded(counting(), other);
  const std::int64_t count = corpus.windows(CorpusSplit::kValidation);
  std::vector<std::int64_t> order;
  for (std::int64_t i = 0; i < 2 * count; ++i) {
    const TokenCorpus::Request request{.microbatch = i,
                                       .split = CorpusSplit::kValidation};
    order.push_back(corpus.window_of(request, 0));
    EXPECT_EQ(reseeded.window_of(request, 0), order.back());
    EXPECT_EQ(order.back(), order[i % count]);  // round and round
  }
  EXPECT_EQ(std::set<std::int64_t>(order.begin(), order.begin() + count).size(),
            static_cast<std::size_t>(count));
  std::set<std::int64_t> chunks, quarters;
  for (std::int64_t i = 0; i < 10; ++i) {
    chunks.insert(order[i] / options().chunk_windows);
    quarters.insert(4 * order[i] / count);
  }
  EXPECT_GE(chunks.size(), 6u);
  EXPECT_EQ(quarters.size(), 4u);
}

TEST(TokenCorpus, RefusalsNameNumbersAndPositions) {
  const auto refusal = [](std::vector<std::int32_t> tokens,
                          const TokenCorpusOptions& o) -> std::string {
    try {
      const TokenCorpus corpus(std::move(tokens), o);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "nothing was refused";
  };
  EXPECT_THAT(refusal(counting(143), options()),
              AllOf(HasSubstr("143 tokens"), HasSubstr("144 are needed")));
  EXPECT_EQ(refusal(counting(144), options()), "nothing was refused");
  auto tokens = counting();
  tokens[77] = -1;
  EXPECT_THAT(refusal(tokens, options()), HasSubstr("-1 at position 77"));
  tokens[77] = kTokens;
  EXPECT_THAT(refusal(tokens, options()), HasSubstr("vocabulary of 5000"));
  for (const auto spoil :
       {&TokenCorpusOptions::vocab_size, &TokenCorpusOptions::window,
        &TokenCorpusOptions::chunk_windows,
        &TokenCorpusOptions::validation_every}) {
    TokenCorpusOptions bad = options();
    bad.*spoil = 0;
    EXPECT_THAT(refusal(counting(), bad), HasSubstr("expected"));
  }
}

TEST(TokenCorpus, BuffersOfTheWrongLengthAreRefused) {
  const TokenCorpus corpus(counting(), options());
  std::vector<std::int64_t> right(14), wrong(13);
  EXPECT_THROW(corpus.fill({.samples = 2}, right, wrong),
               std::invalid_argument);
  EXPECT_THROW(corpus.fill({.samples = 2}, wrong, right),
               std::invalid_argument);
  EXPECT_THROW(corpus.window_begin(CorpusSplit::kTrain, 520),
               std::invalid_argument);
}

}  // namespace
}  // namespace dai::intro
