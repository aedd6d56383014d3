// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/workloads/workload.h"

#include <gtest/gtest.h>

#include "common/errors.h"

namespace dai::intro {
namespace {

DecoderConfig config() {
  return decoder_config("bench-9m");
}

TEST(Workload, DecodeFetchesEachWeightForTwoOperations) {
  const DecoderConfig c = config();
  const Workload one = decode_workload(c, 1, 1);
  // A tied table of embeddings is read whole as the head; per weight one
  // multiply-add, besides norms and two tokens of attention.
  const double weights = static_cast<double>(c.parameter_count());
  EXPECT_NEAR(static_cast<double>(one.flops), 2 * weights, 0.01 * weights);
  EXPECT_NEAR(one.intensity(), 0.5, 0.01);
  // With the batch, intensity grows as long as the cache is small.
  EXPECT_NEAR(decode_workload(c, 8, 1).intensity(), 4.0, 0.1);
}

TEST(Workload, AttentionOverTheContextIsCounted) {
  const DecoderConfig c = config();
  const Workload shorter = decode_workload(c, 3, 100);
  const Workload longer = decode_workload(c, 3, 101);
  // One more key and one more value: two products of head_dim for each head.
  EXPECT_EQ(longer.flops - shorter.flops, 3 * c.layers * 4 * c.hidden);
  EXPECT_EQ(longer.bytes - shorter.bytes,
            3 * 2 * 4 * c.layers * c.kv_heads * c.head_dim());
}

TEST(Workload, PrefillIsTheForwardThirdOfTraining) {
  const DecoderConfig c = config();
  const Workload prefill = prefill_workload(c, 8, 128);
  const Workload training = training_workload(c, 8, 128);
  EXPECT_EQ(prefill.tokens, training.tokens);
  EXPECT_NEAR(
      static_cast<double>(training.flops) / static_cast<double>(prefill.flops),
      3, 0.1);
  EXPECT_GT(training.memory_bytes, 2 * prefill.memory_bytes);
}

// A prompt costs what its tokens cost one after the other, each attending to
// those before it.
TEST(Workload, PrefillIsDecodeTokenAfterToken) {
  const DecoderConfig c = config();
  std::int64_t one_by_one = prefill_workload(c, 2, 1).flops;
  for (std::int64_t context = 1; context < 64; ++context) {
    one_by_one += decode_workload(c, 2, context).flops;
  }
  EXPECT_EQ(prefill_workload(c, 2, 64).flops, one_by_one);
}

TEST(Workload, RefusesNothingToDo) {
  EXPECT_THROW(training_workload(config(), 0, 1), UsageError);
  EXPECT_THROW(prefill_workload(config(), 1, 0), UsageError);
  EXPECT_THROW(decode_workload(config(), 1, 0), UsageError);
}

}  // namespace
}  // namespace dai::intro
