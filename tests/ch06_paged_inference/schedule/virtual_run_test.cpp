// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/schedule/virtual_run.h"

#include <gtest/gtest.h>

#include <fstream>

#include "common/errors.h"
#include "tests/common/temp_folder.h"

namespace dai::paged {
namespace {

StepCost plain(double step, double token = 0, double context = 0) {
  return {.knots = {{{1, 0, 0}, step + token}, {{2, 0, 0}, step + 2 * token}},
          .context_ms = context};
}

TEST(StepCost, GoesThroughWhatWasMeasuredAndStraightBetween) {
  const StepCost cost{
      .knots = {{{1, 100, 0}, 40}, {{4, 200, 10}, 70}, {{8, 0, 0}, 50}},
      .context_ms = 0.1,
      .pair_ms = 1,
      .held_out = {{{4, 300, 10}, 70}, {{6, 10, 0}, 46}}};
  EXPECT_DOUBLE_EQ(cost.of(StepSize{1, 100, 0}), 40);
  EXPECT_DOUBLE_EQ(cost.of(StepSize{4, 200, 10}), 70);
  EXPECT_DOUBLE_EQ(cost.of(StepSize{8, 0, 0}), 50);
  EXPECT_DOUBLE_EQ(cost.of(StepSize{6, 0, 0}), 45);   // between 40 and 50
  EXPECT_DOUBLE_EQ(cost.of(StepSize{10, 0, 0}), 55);  // along the last line
  EXPECT_DOUBLE_EQ(cost.of(StepSize{6, 50, 2}), 52);
  EXPECT_DOUBLE_EQ(cost.worst_error(), 10.0 / 70);
  // Two tokens behind three: each sees those, the second the first as well.
  StepSize size;
  size.add(2, 3);
  size.add(1, 0);
  EXPECT_EQ(size.tokens, 3);
  EXPECT_EQ(size.context, 5 + 1);
  EXPECT_EQ(size.pairs, 4 + 5 + 1);
}

TEST(StepCost, TheRecordedOneIsSane) {
  const StepCost cost = recorded_step_cost();
  ASSERT_GE(cost.knots.size(), 5U);
  EXPECT_GT(cost.of(StepSize{1, 16, 16}), 0);
  EXPECT_GE(cost.context_ms, 0);
  EXPECT_GT(cost.pair_ms, 0);
  EXPECT_EQ(cost.held_out.size(), 3U);
  EXPECT_LT(cost.worst_error(), 0.3);
}

// One request: 10 prompt tokens in steps of 4, then a token a step.
TEST(ServedTrace, OneRequestByHand) {
  VirtualServer server;
  server.scheduler.max_step_tokens = 4;
  server.block_size = 4;
  const ServedTrace run =
      serve_continuously({{100, 10, 3}}, server, plain(10, 1));
  // 4, 4 and 2 tokens: 14 + 14 + 12 ms, then two steps of 11 ms.
  ASSERT_EQ(run.requests.size(), 1U);
  EXPECT_DOUBLE_EQ(run.requests[0].ttft_ms(), 40);
  EXPECT_DOUBLE_EQ(run.requests[0].tpot_ms(), 11);
  EXPECT_DOUBLE_EQ(run.end_ms, 162);
  EXPECT_EQ(run.steps, 5);
  EXPECT_DOUBLE_EQ(run.longest_step_ms, 14);
}

// Two at once, a third while they run: static lets it wait for both.
TEST(ServedTrace, StaticBatchesWaitForTheirLast) {
  const std::vector<TimedRequest> trace{{0, 4, 2}, {0, 4, 10}, {15, 4, 2}};
  const StepCost cost = plain(10);
  const ServedTrace continuous = serve_continuously(trace, {}, cost);
  const ServedTrace fixed = serve_statically(trace, 2, {}, cost);
  EXPECT_DOUBLE_EQ(fixed.requests[0].end_ms, 20);
  EXPECT_DOUBLE_EQ(fixed.requests[1].end_ms, 100);
  EXPECT_DOUBLE_EQ(fixed.requests[2].first_ms, 110);
  EXPECT_DOUBLE_EQ(continuous.requests[2].first_ms, 30);
  EXPECT_DOUBLE_EQ(continuous.end_ms, 100);
  EXPECT_DOUBLE_EQ(fixed.end_ms, 120);
}

TEST(ServedTrace, AllAreServedWhateverTheOptions) {
  const auto trace = arrivals_like_chats(60, 20, 40, 20, 5);
  for (const std::int64_t budget : {8, 64}) {
    for (const std::int64_t blocks : {17, 400}) {
      for (const char* policy : {"fcfs", "priority"}) {
        VirtualServer server;
        server.scheduler.max_step_tokens = budget;
        server.blocks = blocks;
        server.policy = policy;
        const ServedTrace run =
            serve_continuously(trace, server, plain(5, 1, 0.01));
        ASSERT_EQ(run.requests.size(), trace.size());
        for (const ServedRequest& r : run.requests) {
          EXPECT_GT(r.first_ms, r.arrival_ms);
          EXPECT_GE(r.end_ms, r.first_ms);
        }
        EXPECT_EQ(run.preemptions > 0, blocks == 17);
      }
    }
  }
}

TEST(ServedTrace, WhatNeverFitsIsRefused) {
  VirtualServer server;
  server.blocks = 4;
  EXPECT_THROW(serve_continuously({{0, 47, 2}}, server, plain(1)), UsageError);
  EXPECT_EQ(serve_continuously({{0, 46, 2}}, server, plain(1)).steps, 2);
}

using ReadTrace = TempFolder;

TEST_F(ReadTrace, TakesLinesAndNamesTheBadOne) {
  const auto read = [&](const std::string& text) {
    std::ofstream(folder_ / "t") << text;
    return read_trace((folder_ / "t").string());
  };
  const auto trace = read("0 12 3\n0.5 1 1\n");
  ASSERT_EQ(trace.size(), 2U);
  EXPECT_EQ(trace[0].prompt, 12);
  EXPECT_EQ(trace[1].output, 1);
  EXPECT_DOUBLE_EQ(trace[1].arrival_ms, 0.5);
  for (const char* bad :
       {"0 12\n", "0 12 3 4\n", "x 1 1\n", "0 0 1\n", "5 1 1\n4 1 1\n",
        "0 1 9999999\n", "nan 1 1\n", "-1 1 1\n", ""}) {
    EXPECT_THROW(read(bad), UsageError) << bad;
  }
  EXPECT_THROW(read_trace((folder_ / "none").string()), UsageError);
}

TEST(Arrivals, AreAsManyASecondAsAsked) {
  const auto trace = arrivals_like_chats(4000, 5, 64, 48, 9);
  EXPECT_NEAR(trace.back().arrival_ms / 1e3, 800, 40);
  double prompt = 0;
  for (std::size_t i = 0; i < trace.size(); ++i) {
    prompt += static_cast<double>(trace[i].prompt) / 4000;
    EXPECT_GE(trace[i].output, 1);
    EXPECT_LE(trace[i].prompt, 4 * 64);
    EXPECT_GE(trace[i].arrival_ms, i > 0 ? trace[i - 1].arrival_ms : 0);
  }
  EXPECT_NEAR(prompt, 64, 6);  // the cut takes a little
}

}  // namespace
}  // namespace dai::paged
