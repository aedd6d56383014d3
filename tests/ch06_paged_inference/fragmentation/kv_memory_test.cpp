// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/fragmentation/kv_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ch06_paged_inference/fragmentation/decode_rate.h"
#include "common/errors.h"
#include "tests/ch06_paged_inference/support/pretend_runner.h"

namespace dai::paged {
namespace {

using ::testing::ElementsAre;

// 4 prompt tokens and 3 more, of which the last needs no slot: three steps,
// with 4, 5 and 6 tokens.
const std::vector<RequestLengths> kOne{{4, 3}};

TEST(KvMemory, OneRequestByHand) {
  const MemoryUse max = serve_reserved(kOne, 64, Reservation::kMax, 16);
  EXPECT_THAT(max.batches, ElementsAre(1, 1, 1));
  EXPECT_EQ(max.tokens, 5);
  EXPECT_EQ(max.later, 1);
  EXPECT_EQ(max.never, 10);
  EXPECT_DOUBLE_EQ(max.waste_percent(), 100.0 * 11 / 16);
  EXPECT_EQ(serve_reserved(kOne, 64, Reservation::kPow2, 16).never, 2);
  EXPECT_EQ(serve_reserved(kOne, 64, Reservation::kOracle, 16).never, 0);
  const MemoryUse paged = serve_paged(kOne, 64, 4);  // 4, 8 and 8 slots taken
  EXPECT_EQ(paged.tokens, 5);
  EXPECT_DOUBLE_EQ(paged.never, (0 + 3 + 2) / 3.0);
  EXPECT_EQ(paged.later, 0);
}

TEST(KvMemory, MemoryLimitsTheBatch) {
  const std::vector<RequestLengths> trace(10, {4, 3});
  EXPECT_EQ(serve_reserved(trace, 64, Reservation::kMax, 16).most, 4);
  EXPECT_EQ(serve_reserved(trace, 64, Reservation::kOracle, 16).most, 10);
  EXPECT_EQ(serve_reserved(trace, 36, Reservation::kOracle, 16).most, 6);
  EXPECT_GE(serve_paged(trace, 64, 4).most, 8);
  EXPECT_THROW(serve_reserved(trace, 8, Reservation::kMax, 16), UsageError);
  EXPECT_THROW(serve_paged(trace, 8, 4), UsageError);
}

TEST(KvMemory, EveryTokenIsComputedWhateverTheMemory) {
  const std::vector<RequestLengths> trace = lengths_like_chats(60, 512, 3);
  for (const std::int64_t slots : {1024, 4096}) {
    for (const double watermark : {0.0, 0.1}) {
      const MemoryUse paged = serve_paged(trace, slots, 16, watermark);
      EXPECT_LT(paged.waste_percent(), 6);
      EXPECT_LE(paged.tokens + paged.never, static_cast<double>(slots));
    }
  }
}

// The paper's claim, on its kind of trace.
TEST(KvMemory, LessThanFourPercentIsWastedAndTwiceAsManyRun) {
  for (const std::uint64_t seed : {1, 2, 3}) {
    const auto trace = lengths_like_chats(300, 2048, seed);
    const MemoryUse paged = serve_paged(trace, 16384, 16, 0.05);
    const MemoryUse max = serve_reserved(trace, 16384, Reservation::kMax, 2048);
    EXPECT_LT(paged.waste_percent(), 4);
    EXPECT_GT(max.waste_percent(), 50);
    EXPECT_GT(paged.batch, 2 * max.batch);
  }
}

TEST(LengthsLikeChats, MeansOfThePaper) {
  double prompts = 0, outputs = 0;
  const auto trace = lengths_like_chats(20000, 1 << 20, 7);
  for (const RequestLengths& lengths : trace) {
    EXPECT_GE(lengths.prompt, 1);
    prompts += static_cast<double>(lengths.prompt) / 20000;
    outputs += static_cast<double>(lengths.output) / 20000;
  }
  EXPECT_NEAR(prompts, 161, 5);
  EXPECT_NEAR(outputs, 338, 10);
  for (const RequestLengths& lengths : lengths_like_chats(500, 64, 7)) {
    EXPECT_LE(lengths.prompt + lengths.output, 64);
    EXPECT_GE(lengths.output, 1);
  }
}

TEST(DecodeTimes, AreStraightBetweenWhatWasMeasured) {
  const DecodeTimes times{{{1, 10.0}, {5, 30.0}, {9, 90.0}}};
  EXPECT_EQ(times.step_ms_of(1), 10);
  EXPECT_EQ(times.step_ms_of(3), 20);
  EXPECT_EQ(times.step_ms_of(9), 90);
  EXPECT_EQ(times.step_ms_of(10), 105);
  EXPECT_DOUBLE_EQ(times.tokens_per_s({1, 3}), 4 / 0.030);
}

TEST(MeasureDecode, RunsEveryBatchOnBlocksOfItsOwn) {
  PretendRunner runner(40, 4);
  const DecodeTimes times = measure_decode(runner, {1, 4}, 34, 2);
  EXPECT_EQ(times.step_ms.size(), 2U);
  EXPECT_THROW(measure_decode(runner, {5}, 34, 2), UsageError);
}

}  // namespace
}  // namespace dai::paged
