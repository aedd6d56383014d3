// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/profile/analytic_flops.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "common/errors.h"

namespace dai::intro {
namespace {

double definition(const DecoderConfig& config, std::int64_t batch,
                  std::int64_t seq, const std::string& name,
                  const ExecutionChoices& choices = {}) {
  for (const FlopDefinition& d :
       flop_definitions(config, batch, seq, choices)) {
    if (d.name == name) return d.flops;
  }
  ADD_FAILURE() << "no definition " << name;
  return 0;
}

// Megatron's models have a plain MLP of 4 h: two matrices with 8 h^2 weights
// together. A gated one of 8 h / 3 has three with as many.
DecoderConfig megatron(std::int64_t layers, std::int64_t hidden,
                       std::int64_t heads) {
  return {.name = "megatron",
          .vocab_size = 51200,
          .hidden = hidden,
          .layers = layers,
          .heads = heads,
          .kv_heads = heads,
          .ffn = 8 * hidden / 3,
          .max_positions = 2048};
}

// arXiv:2205.05198, table 5: A100 of 312 TFLOP/s, sequences of 2048.
struct Published {
  const char* name;
  DecoderConfig config;
  double gpus, iteration_s, mfu, hfu;  // percent; a sequence a GPU but 22b
  std::int64_t batch;
};

std::vector<Published> table5() {
  return {{"22b", megatron(48, 6144, 64), 8, 1.10, 41.5, 43.7, 4},
          {"175b", megatron(96, 12288, 96), 64, 13.75, 51.4, 52.8, 64},
          {"530b", megatron(105, 20480, 128), 280, 37.83, 56.0, 57.0, 280},
          {"1t", megatron(128, 25600, 160), 512, 71.49, 56.3, 57.0, 512}};
}

// Of one sequence: the whole batch's count does not fit 64 bits.
double of_batch(const Published& row, const std::string& name,
                const ExecutionChoices& choices = {}) {
  return static_cast<double>(row.batch) *
         definition(row.config, 1, 2048, name, choices);
}

TEST(FlopDefinitions, MegatronsPublishedMfu) {
  for (const Published& row : table5()) {
    const double peak = row.gpus * 312e12;
    // Seconds are published with two decimals, per cents with one.
    const double flops = 100 * of_batch(row, "megatron") / peak;
    EXPECT_LE(flops / (row.iteration_s + 0.005), row.mfu + 0.05) << row.name;
    EXPECT_GE(flops / (row.iteration_s - 0.005), row.mfu - 0.05) << row.name;
  }
}

// The paper's hardware FLOPs, 72 B L s h^2 (1 + s / 3h + V / 12hL), hold the
// scores twice as often as its model FLOPs. One more forward of them, which is
// what recomputing costs, is a third of that: two ways to say HFU as well.
TEST(FlopDefinitions, MegatronsPublishedHardwareUtilisation) {
  for (const Published& row : table5()) {
    const double model = of_batch(row, "megatron");
    const double scores = 2 * (model - of_batch(row, "megatron_causal"));
    const double ratio = (model + scores) / model;
    EXPECT_GE(ratio, (row.hfu - 0.05) / (row.mfu + 0.05)) << row.name;
    EXPECT_LE(ratio, (row.hfu + 0.05) / (row.mfu - 0.05)) << row.name;

    const ExecutionChoices selective{.flash_attention = false,
                                     .recompute = Recompute::kAttention};
    const double executed = of_batch(row, "hardware", selective);
    EXPECT_NEAR((executed - model) / scores, 1.0 / 3, 1e-9) << row.name;
  }
}

// arXiv:2104.04473: 96 B s l h^2 (1 + s / 6h + V / 16 l h) with every layer
// computed again in backward.
TEST(AnalyticFlops, FullRecomputationIsThePublishedFormula) {
  for (const Published& row : table5()) {
    const DecoderConfig& c = row.config;
    const double s = 2048, h = static_cast<double>(c.hidden),
                 l = static_cast<double>(c.layers),
                 v = static_cast<double>(c.vocab_size);
    const double published =
        96 * s * l * h * h * (1 + s / (6 * h) + v / (16 * l * h));
    const StepFlops step = analytic_flops(
        c, 1, 2048,
        {.flash_attention = false, .recompute = Recompute::kBlocks});
    // 8 h / 3 was rounded down.
    EXPECT_NEAR(static_cast<double>(step.total()) / published, 1, 5e-5);
  }
}

// arXiv:2204.02311, appendix B: 540.35e9 parameters, 118 layers, 48 heads of
// 256, 238.3 thousand tokens a second on 6144 TPU v4 of 275 TFLOP/s: 46.2 %,
// and 45.7 % without attention.
TEST(FlopDefinitions, PalmsPublishedMfu) {
  const auto mfu = [](double factor) {
    return 100 * 238.3e3 *
           flops_per_token(540.35e9, 118, 48 * 256, 2048, factor) /
           (6144 * 275e12);
  };
  EXPECT_NEAR(mfu(12), 46.2, 0.05);
  EXPECT_NEAR(mfu(0), 45.7, 0.05);
}

// arXiv:2005.14165, table D.1: 300e9 tokens, 125e6 and 174.6e9 parameters.
TEST(FlopDefinitions, Gpt3sPublishedTrainingCompute) {
  EXPECT_NEAR(300e9 * flops_per_token(125e6, 0, 0, 0, 0) / 2.25e20, 1, 1e-9);
  EXPECT_NEAR(300e9 * flops_per_token(174.6e9, 0, 0, 0, 0) / 3.14e23, 1, 2e-3);
}

TEST(FlopDefinitions, DifferByHowTheyCountScoresAndTables) {
  const DecoderConfig config = decoder_config("bench-9m");
  const double n = static_cast<double>(config.parameter_count());
  const double tokens = 8 * 128, lht = 12.0 * 192 * 128;
  const auto of = [&](const char* name) {
    return definition(config, 8, 128, name);
  };
  EXPECT_EQ(of("6n"), 6 * n * tokens);
  EXPECT_EQ(of("6n") - of("6n_no_embedding"), 6 * 16384.0 * 192 * tokens);
  EXPECT_EQ(of("palm") - of("6n"), 12 * lht * tokens);
  EXPECT_EQ(of("llm_c") - of("6n"), 6 * lht * tokens);
  EXPECT_EQ(of("megatron") - of("megatron_causal"), 6 * lht * tokens);
  // Norms are parameters and multiply nothing.
  EXPECT_EQ(of("palm") - of("megatron"), 6 * 25.0 * 192 * tokens);
  // Flash attention's backward: one product of five more, 2 L h T a token.
  EXPECT_EQ(of("hardware") - of("megatron"), 2 * lht * tokens);
}

TEST(AnalyticFlops, TermsOfASmallDecoderByHand) {
  const DecoderConfig config{.name = "tiny",
                             .vocab_size = 11,
                             .hidden = 12,
                             .layers = 3,
                             .heads = 6,
                             .kv_heads = 2,
                             .ffn = 7,
                             .max_positions = 16};
  const std::int64_t tokens = 2 * 5;
  const StepFlops step = analytic_flops(config, 2, 5);
  EXPECT_EQ(step.term("q_proj").forward, 3 * 2 * tokens * 12 * 12);
  EXPECT_EQ(step.term("k_proj").forward, 3 * 2 * tokens * 12 * 4);
  EXPECT_EQ(step.term("down_proj").backward, 2 * 3 * 2 * tokens * 12 * 7);
  EXPECT_EQ(step.term("attention").forward, 3 * 2 * (2 * 6 * 5 * 5 * (2 + 2)));
  EXPECT_EQ(step.term("attention").backward,
            3 * 2 * (2 * 6 * 5 * 5 * (3 * 2 + 2 * 2)));
  EXPECT_EQ(step.term("head").forward, 2 * tokens * 12 * 11);
  EXPECT_THROW(step.term("bias"), std::out_of_range);
}

TEST(AnalyticFlops, TheChunkedLossMovesWorkAndAddsNone) {
  const DecoderConfig config = decoder_config("nano-1m");
  const StepFlops plain = analytic_flops(config, 4, 64);
  const StepFlops chunked =
      analytic_flops(config, 4, 64, {.head_gradient_in_forward = true});
  EXPECT_EQ(plain.total(), chunked.total());
  EXPECT_EQ(chunked.forward() - plain.forward(), plain.term("head").backward);
}

TEST(AnalyticFlops, RecomputedBlocksRunForwardAgainAndTheHeadDoesNot) {
  const DecoderConfig config = decoder_config("nano-1m");
  const StepFlops once = analytic_flops(config, 4, 64);
  const StepFlops again =
      analytic_flops(config, 4, 64, {.recompute = Recompute::kBlocks});
  EXPECT_EQ(again.total() - once.total(),
            once.forward() - once.term("head").forward);
}

TEST(AnalyticFlops, RefusesWhatItCannotCount) {
  const DecoderConfig nano = decoder_config("nano-1m");
  EXPECT_THROW(analytic_flops(nano, 0, 8), UsageError);
  EXPECT_THROW(analytic_flops(nano, 8, -1), UsageError);
  EXPECT_THROW(flop_definitions(nano, 8, 0), UsageError);
  EXPECT_THROW(analytic_flops(decoder_config("llama-405b"), 1 << 20, 8192),
               UsageError);
  EXPECT_GT(analytic_flops(decoder_config("llama-405b"), 1, 8192).total(),
            std::int64_t{1} << 54);
}

}  // namespace
}  // namespace dai::intro
