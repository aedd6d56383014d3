// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory_plan/scale_plan.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "common/errors.h"

namespace dai::intro {
namespace {

// Table 1 of the ZeRO paper: 7.5 billion parameters on 64 devices, K = 12.
TEST(ScalePlan, ZeroStagesReproduceThePublishedRow) {
  const StateRecipe recipe = state_recipe("bf16-16");
  const std::int64_t parameters = 7'500'000'000;
  EXPECT_DOUBLE_EQ(zero_bytes(recipe, parameters, 64, 0) / 1e9, 120);
  EXPECT_NEAR(zero_bytes(recipe, parameters, 64, 1) / 1e9, 31.4, 0.05);
  EXPECT_NEAR(zero_bytes(recipe, parameters, 64, 2) / 1e9, 16.6, 0.05);
  EXPECT_NEAR(zero_bytes(recipe, parameters, 64, 3) / 1e9, 1.9, 0.05);
}

// Megatron-LM's table for its distributed optimizer: bytes a parameter on d
// data-parallel ranks.
TEST(ScalePlan, MegatronsDistributedOptimizerRows) {
  for (const std::int64_t d : {1, 8, 64}) {
    const double share = 1.0 / static_cast<double>(d);
    EXPECT_DOUBLE_EQ(zero_bytes(state_recipe("fp16-20"), 1000, d, 1) / 1000,
                     4 + 16 * share);
    EXPECT_DOUBLE_EQ(zero_bytes(state_recipe("bf16-18"), 1000, d, 1) / 1000,
                     6 + 12 * share);
    EXPECT_DOUBLE_EQ(zero_bytes(state_recipe("fp32"), 1000, d, 1) / 1000,
                     8 + 8 * share);
  }
}

TEST(ScalePlan, RecipesAddUpToTheirNames) {
  EXPECT_EQ(state_recipe("fp32").per_parameter(), 16);
  EXPECT_EQ(state_recipe("bf16-16").per_parameter(), 16);
  EXPECT_EQ(state_recipe("bf16-18").per_parameter(), 18);
  EXPECT_EQ(state_recipe("fp16-20").per_parameter(), 20);
  EXPECT_EQ(state_recipe_names().size(), 4U);
  EXPECT_THROW(state_recipe("int4"), UsageError);
}

// 8.03 billion parameters: weights of 16 GB, states of 128 or 145 GB.
TEST(ScalePlan, Llama8bStates) {
  const std::int64_t parameters = decoder_config("llama-8b").parameter_count();
  EXPECT_EQ(parameters, 8'030'261'248);
  EXPECT_EQ(state_bytes(state_recipe("bf16-16"), parameters).total(),
            128'484'179'968);
  EXPECT_EQ(state_bytes(state_recipe("bf16-18"), parameters).total(),
            144'544'702'464);
  EXPECT_EQ(devices_for(144'544'702'464, 80), 2);
  EXPECT_EQ(devices_for(144'544'702'464, 141), 2);
  EXPECT_EQ(devices_for(80'000'000'000, 80), 1);
  EXPECT_EQ(devices_for(80'000'000'001, 80), 2);
}

// The paper's own example, its 22B model: s = 2048, b = 4, h = 6144, a = 64,
// 48 layers; 5 a s / h = 106.7, so 141 bytes an element against 34 and 2.
TEST(ScalePlan, MegatronActivationRows) {
  DecoderConfig gpt = decoder_config("llama-8b");
  gpt.hidden = 6144;
  gpt.heads = 64;
  gpt.layers = 48;
  const std::int64_t sbh = 2048LL * 4 * 6144;
  EXPECT_EQ(megatron_activation_bytes(gpt, 4, 2048, Recompute::kNothing),
            48 * (34 * sbh + 5LL * 64 * 2048 * 2048 * 4));
  EXPECT_EQ(megatron_activation_bytes(gpt, 4, 2048, Recompute::kAttention),
            48 * 34 * sbh);
  EXPECT_EQ(megatron_activation_bytes(gpt, 4, 2048, Recompute::kBlocks),
            48 * 2 * sbh);
  const double ratio = static_cast<double>(megatron_activation_bytes(
                           gpt, 4, 2048, Recompute::kNothing)) /
                       static_cast<double>(megatron_activation_bytes(
                           gpt, 4, 2048, Recompute::kAttention));
  EXPECT_NEAR(ratio, (34 + 5.0 * 64 * 2048 / 6144) / 34, 1e-12);
}

TEST(ScalePlan, GroupedQueriesShrinkTheKvCache) {
  DecoderConfig llama = decoder_config("llama-8b");
  EXPECT_EQ(kv_cache_bytes(llama, 8192, 2), 1LL << 30);  // 128 KiB a token
  llama.kv_heads = llama.heads;
  EXPECT_EQ(kv_cache_bytes(llama, 8192, 2), 4LL << 30);
  // One sequence of a full window of the largest: 68 GB.
  EXPECT_EQ(kv_cache_bytes(decoder_config("llama-405b"), 131072, 2),
            126LL * 2 * 8 * 128 * 2 * 131072);
}

// 405B on 15.6e12 tokens: the report says 3.8e25 operations.
TEST(ScalePlan, TrainingOperationsOfThePublishedRun) {
  const DecoderConfig llama = decoder_config("llama-405b");
  const double matmuls_only = training_flops_per_token(llama, 1) * 15.6e12;
  EXPECT_NEAR(matmuls_only, 3.8e25, 0.05e25);
  const DecoderConfig small = decoder_config("nano-1m");
  EXPECT_EQ(
      training_flops_per_token(small, 64),
      6.0 * static_cast<double>(small.parameter_count()) + 12.0 * 12 * 96 * 64);
}

TEST(ScalePlan, DeviceDaysAreOperationsOverUsefulRate) {
  EXPECT_DOUBLE_EQ(device_days(86400e12, 1e12, 1), 1);
  EXPECT_DOUBLE_EQ(device_days(86400e12, 1e12, 0.4), 2.5);
}

}  // namespace
}  // namespace dai::intro
