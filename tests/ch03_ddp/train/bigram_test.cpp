// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/train/bigram.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ch01_intro/counter_random.h"

namespace dai::ddp {
namespace {

using intro::TokenCorpus;

constexpr intro::TokenCorpusOptions kOptions{
    .vocab_size = 8, .window = 16, .chunk_windows = 4, .validation_every = 4};

// 0 1 2 ... 7 0 1 2: a table foretells it.
TEST(BigramLoss, IsNearZeroWhereEachTokenHasOneFollower) {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 20000; ++i) tokens.push_back(i % 8);
  EXPECT_LT(bigram_loss(TokenCorpus(tokens, kOptions), 20), 0.01);
}

// Independent tokens, one of them half of the time: the entropy, 2.4 nats of
// which no table can go below, and this one comes near.
TEST(BigramLoss, IsTheEntropyWhereNothingFollows) {
  std::vector<std::int32_t> tokens;
  double entropy = 0.5 * std::log(2.0) + 7 * (0.5 / 7) * std::log(14.0);
  for (int i = 0; i < 200000; ++i) {
    const double u = intro::uniform01(7, i);
    tokens.push_back(u < 0.5 ? 0 : 1 + static_cast<int>((u - 0.5) * 14));
  }
  const double loss = bigram_loss(TokenCorpus(tokens, kOptions), 400);
  EXPECT_NEAR(loss, entropy, 0.03);
}

TEST(BigramLoss, ATokenNeverSeenStillHasAProbability) {
  std::vector<std::int32_t> tokens(20000, 1);
  // Chunk 3, the first that is held back, has what no other has.
  for (int i = 3 * 64; i < 4 * 64; ++i) tokens[i] = 5;
  const double loss = bigram_loss(TokenCorpus(tokens, kOptions), 200);
  EXPECT_TRUE(std::isfinite(loss));
  EXPECT_GT(loss, 0);
}

}  // namespace
}  // namespace dai::ddp
