// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/bottleneck/step_work.h"

#include <gtest/gtest.h>

namespace dai::paged {
namespace {

// By hand: hidden 8, 2 heads of 4, 1 KV head, ffn 12, 2 layers, vocabulary 6.
intro::DecoderConfig config(bool tied) {
  return {.name = "tiny",
          .vocab_size = 6,
          .hidden = 8,
          .layers = 2,
          .heads = 2,
          .kv_heads = 1,
          .ffn = 12,
          .max_positions = 32,
          .tied_embeddings = tied};
}
constexpr std::int64_t kLayer = 8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 12 + 2 * 8;
constexpr std::int64_t kBlocks = 2 * kLayer + 8;  // and the last norm
constexpr std::int64_t kHead = 6 * 8;

TEST(StepWork, ADecodeStepByHand) {
  const intro::Work work =
      step_work(config(true), {.rows = 3, .position = 9}, 4, 2);
  EXPECT_EQ(work.flops, 3 * (2 * kBlocks + 2 * kHead + 4 * 2 * 8 * 10));
  // A token has 2 layers x (key + value) x 4 values of 2 bytes.
  EXPECT_EQ(kv_bytes_per_token(config(true), 2), 2 * 2 * 4 * 2);
  EXPECT_EQ(work.bytes, (kBlocks + kHead) * 4 + 32 * (3 * 10 + 3));
}

TEST(StepWork, APromptReadsTheWeightsOnce) {
  const intro::Work one = step_work(config(true), {}, 4, 4);
  const intro::Work many = step_work(config(true), {.count = 10}, 4, 4);
  // Looks back at 1 + 2 + ... + 10 tokens, and the head works once.
  EXPECT_EQ(many.flops, 10 * 2 * kBlocks + 2 * kHead + 4 * 2 * 8 * 55);
  EXPECT_LT(many.bytes, 2 * one.bytes);
}

TEST(StepWork, AnUntiedEmbeddingIsNotAProduct) {
  EXPECT_EQ(step_work(config(false), {}, 4, 4).flops,
            step_work(config(true), {}, 4, 4).flops);
}

TEST(ComputeBoundBatch, IsWhereTheRidgeIsCrossed) {
  const intro::DecoderConfig c = intro::decoder_config("smollm2-135m");
  const auto intensity = [&](std::int64_t rows) {
    const intro::Work w = step_work(c, {.rows = rows, .position = 127}, 4, 4);
    return static_cast<double>(w.flops) / static_cast<double>(w.bytes);
  };
  const std::int64_t batch = compute_bound_batch(c, 128, 4, 4, 4);
  EXPECT_GE(intensity(batch), 4);
  EXPECT_LT(intensity(batch - 1), 4);
  // With a long past every sequence brings more bytes than the ridge allows.
  EXPECT_EQ(compute_bound_batch(c, 32768, 4, 4, 4), 0);
}

}  // namespace
}  // namespace dai::paged
