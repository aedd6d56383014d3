// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <stdexcept>

#include "ch06_paged_inference/engine/engine.h"
#include "ch06_paged_inference/extend/no_repeat_ngram.h"
#include "ch06_paged_inference/extend/shortest_prompt_first.h"
#include "tests/ch06_paged_inference/support/pretend_runner.h"

namespace dai::paged {
namespace {

using ::testing::ElementsAre;

TEST(ShortestPromptFirst, FinishesTheShortOnesFirst) {
  PretendRunner runner(64, 4);
  EngineOptions options;
  options.policy = std::make_shared<ShortestPromptFirst>();
  options.scheduler.max_sequences = 1;
  options.asynchronous = false;
  Engine engine(options, runner);
  std::vector<std::int64_t> order;
  for (const std::int64_t length : {9, 3, 6}) {
    Request request;
    request.prompt.assign(static_cast<std::size_t>(length), 1);
    request.sampling.max_tokens = 2;
    request.on_output = [&, length](const Output& output) {
      if (output.finish != FinishReason::kNone) order.push_back(length);
    };
    engine.submit(request);
  }
  while (engine.step()) {
  }
  EXPECT_THAT(order, ElementsAre(3, 6, 9));
}

std::vector<std::int32_t> answer(std::int64_t n) {
  PretendRunner runner(64, 4, /*vocab=*/6);
  Engine engine({}, runner);
  Request request;
  request.prompt = {1, 2, 3, 1, 2, 3};
  request.sampling.max_tokens = 30;
  if (n > 0) {
    request.sampling.processors = {std::make_shared<NoRepeatNgram>(n)};
  }
  std::vector<std::int32_t> tokens;
  request.on_output = [&](const Output& output) {
    tokens.insert(tokens.end(), output.tokens.begin(), output.tokens.end());
  };
  engine.submit(request);
  while (engine.step()) {
  }
  return tokens;
}

bool repeats(const std::vector<std::int32_t>& tokens, std::size_t n) {
  std::set<std::vector<std::int32_t>> seen;
  for (std::size_t i = 0; i + n <= tokens.size(); ++i) {
    if (!seen.insert({tokens.begin() + i, tokens.begin() + i + n}).second) {
      return true;
    }
  }
  return false;
}

TEST(NoRepeatNgram, NothingOccursTwice) {
  EXPECT_TRUE(repeats(answer(0), 2));
  EXPECT_FALSE(repeats(answer(2), 2));
  EXPECT_FALSE(repeats(answer(3), 3));
  EXPECT_THROW(NoRepeatNgram(0), std::invalid_argument);
}

// With six tokens there are six answers of one token each, and then nothing.
TEST(NoRepeatNgram, WhenNothingIsLeftTheAnswerEndsInAnError) {
  const std::vector<std::int32_t> tokens = answer(1);
  EXPECT_EQ(tokens.size(), 6U);
  EXPECT_FALSE(repeats(tokens, 1));
}

}  // namespace
}  // namespace dai::paged
