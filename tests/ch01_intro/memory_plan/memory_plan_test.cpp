// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory_plan/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "common/errors.h"

namespace dai::intro {
namespace {

using C = MemoryCategory;

PlanSetup setup(const std::string& name, Rung rung, std::int64_t batch = 2,
                std::int64_t seq = 64) {
  return {decoder_config(name), batch, seq, rung};
}

TEST(MemoryPlan, AdamInFloat32TakesSixteenBytesAParameter) {
  for (const std::string& name : decoder_config_names()) {
    const DecoderConfig config = decoder_config(name);
    const MemoryPlan plan = plan_memory(setup(name, Rung::kNaive));
    const auto tensors = static_cast<std::int64_t>(config.parameters().size());
    EXPECT_EQ(plan.total(C::kParameters) + plan.total(C::kGradients) +
                  plan.total(C::kOptimizer),
              16 * config.parameter_count() + 4 * tensors)
        << name;
  }
}

// Each layer, counted by hand for a decoder small enough to do so.
TEST(MemoryPlan, ActivationsAreWhatEachOperationSaves) {
  const DecoderConfig c = decoder_config("nano-1m");
  const std::int64_t t = 2 * 64, h = c.hidden, f = c.ffn, v = c.vocab_size;
  const std::int64_t attention = 5 * t * h + t * c.heads;  // in, q, k, v, out
  const std::int64_t norm = t * h + t;                     // x, 1 / rms
  const std::int64_t naive = 2 * (norm + t * h) + attention + t * h + 4 * t * f;
  const std::int64_t fused = 2 * norm + attention + t * h + 3 * t * f;
  EXPECT_EQ(plan_memory(setup("nano-1m", Rung::kNaive)).total(C::kActivations),
            4 * (c.layers * naive + norm + t * h + t * h + t * v + 2));
  EXPECT_EQ(plan_memory(setup("nano-1m", Rung::kFused)).total(C::kActivations),
            4 * (c.layers * fused + norm + t * h + 1));
}

// Autocast halves what products take, but casts an input for each of them and
// keeps a cast of each weight.
TEST(MemoryPlan, AutocastKeepsCopiesOfWeightsAndInputs) {
  const DecoderConfig c = decoder_config("nano-1m");
  const std::int64_t t = 2 * 64, h = c.hidden, f = c.ffn, v = c.vocab_size;
  const std::int64_t norm = 4 * (t * h + t);  // float32
  const std::int64_t inputs = 2 * (3 + 2) * t * h;
  const std::int64_t attention = 2 * 4 * t * h + 4 * t * c.heads;
  const std::int64_t weights = 2 * (4 * h * h + 3 * h * f);
  const std::int64_t block = 2 * norm + inputs + attention + weights;
  PlanSetup fused = setup("nano-1m", Rung::kFused);
  fused.bf16 = true;
  EXPECT_EQ(plan_memory(fused).total(C::kActivations),
            c.layers * (block + 2 * 3 * t * f) + norm + 4 * t * h + 4);
  PlanSetup naive = setup("nano-1m", Rung::kNaive);
  naive.bf16 = true;
  EXPECT_EQ(plan_memory(naive).total(C::kActivations),
            c.layers * (block + 2 * 4 * t * h + (3 * 4 + 2) * t * f) + norm +
                4 * t * h + 2 * t * h + 4 * t * v + 2 * v * h + 8);
  EXPECT_EQ(plan_memory(naive).states(),
            plan_memory(setup("nano-1m", Rung::kNaive)).states());
}

TEST(MemoryPlan, ActivationsGrowWithTokensAndStatesDoNot) {
  for (const Rung rung : {Rung::kNaive, Rung::kFused}) {
    const MemoryPlan one = plan_memory(setup("small-5m", rung, 1, 128));
    const MemoryPlan four = plan_memory(setup("small-5m", rung, 4, 128));
    EXPECT_EQ(one.total(C::kOptimizer), four.total(C::kOptimizer));
    EXPECT_GT(four.total(C::kActivations), 2 * one.total(C::kActivations));
    // A token more costs the same wherever it stands: attention keeps no
    // weights.
    EXPECT_EQ(
        plan_memory(setup("small-5m", rung, 1, 512)).total(C::kActivations),
        four.total(C::kActivations));
  }
}

TEST(MemoryPlan, ATiedHeadIsCountedOnce) {
  PlanSetup tied = setup("nano-1m", Rung::kNaive);
  PlanSetup untied = tied;
  untied.config.tied_embeddings = false;
  const std::int64_t table = 4 * tied.config.vocab_size * tied.config.hidden;
  EXPECT_EQ(plan_memory(untied).total(C::kParameters) -
                plan_memory(tied).total(C::kParameters),
            table);
}

TEST(MemoryPlan, GroupedQueriesKeepFewerKeysAndValues) {
  PlanSetup all = setup("nano-1m", Rung::kFused);
  PlanSetup grouped = all;
  grouped.config.kv_heads = 4;
  const std::int64_t dropped = 8 * all.config.head_dim() * all.tokens() * 4;
  EXPECT_EQ(plan_memory(all).total(C::kActivations) -
                plan_memory(grouped).total(C::kActivations),
            2 * dropped * all.config.layers);
}

TEST(MemoryPlan, TheRungsDifferInWhatTheySave) {
  const MemoryPlan naive = plan_memory(setup("bench-9m", Rung::kNaive, 8, 128));
  const MemoryPlan fused = plan_memory(setup("bench-9m", Rung::kFused, 8, 128));
  EXPECT_EQ(naive.states(), fused.states());
  EXPECT_LT(fused.total(C::kActivations), naive.total(C::kActivations));
  EXPECT_LT(fused.peak().bytes, naive.peak().bytes);
}

TEST(MemoryPlan, ThePeakIsTheLargestOfThePhases) {
  for (const Rung rung : {Rung::kNaive, Rung::kFused}) {
    // A long batch peaks among activations; a short one where a tied table's
    // gradients meet.
    const MemoryPlan large = plan_memory(setup("bench-9m", rung, 8, 512));
    const MemoryPlan small = plan_memory(setup("bench-9m", rung, 1, 4));
    ASSERT_EQ(large.peaks.size(), 4U);
    EXPECT_THAT(large.peak().where,
                ::testing::Not(::testing::StartsWith("embedding")));
    EXPECT_THAT(small.peak().where, ::testing::StartsWith("embedding"));
    for (const PlanPeak& peak : large.peaks) {
      EXPECT_LE(peak.bytes, large.peak().bytes);
    }
  }
}

TEST(MemoryPlan, SetupsThatCannotBeAreRefused) {
  EXPECT_THROW(plan_memory(setup("nano-1m", Rung::kNaive, 0, 64)), UsageError);
  EXPECT_THROW(plan_memory(setup("nano-1m", Rung::kNaive, 1, 0)), UsageError);
  EXPECT_THROW(plan_memory(setup("nano-1m", Rung::kNaive, 1, 513)), UsageError);
  EXPECT_THROW(rung_from_string("compiled"), UsageError);
  EXPECT_EQ(rung_from_string(to_string(Rung::kFused)), Rung::kFused);
}

}  // namespace
}  // namespace dai::intro
