// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/shapes/shape_advice.h"

#include <gmock/gmock.h>

#include "ch01_intro/shapes/shape_report.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

const Advice& row(const ShapeAdvice& advice, const std::string& dimension) {
  for (const Advice& r : advice.rows) {
    if (r.dimension == dimension) return r;
  }
  throw std::runtime_error("no row " + dimension);
}

ShapeQuestion gpt2_like() {
  DecoderConfig model = decoder_config("llama-8b");
  model.vocab_size = 50257;
  model.ffn = 10922;
  return {.model = model, .batch = 1, .sequence = 2048};
}

TEST(ShapeAdvice, ThePublishedSizes) {
  EXPECT_EQ(padded_vocabulary(50257), 50304);
  EXPECT_EQ(padded_vocabulary(50257, 64, 3), 50304);  // 262 x 192
  EXPECT_EQ(padded_vocabulary(50257, 64, 8), 50688);
  EXPECT_EQ(padded_ffn(10922, 64), 10944);
  EXPECT_EQ(padded_ffn(11008, 64), 11008);
  const ShapeAdvice advice = advise(gpt2_like(), named_gpu("H100"));
  EXPECT_EQ(advice.advised.model.vocab_size, 50304);
  EXPECT_EQ(advice.advised.model.ffn, 10944);
  EXPECT_TRUE(row(advice, "ffn").changes);
}

TEST(ShapeAdvice, NeverLosesEfficiency) {
  EXPECT_EQ(largest_loss_by_advice(), 0);
}

TEST(ShapeAdvice, AlignmentFollowsDtypeAndGpu) {
  ShapeQuestion question = gpt2_like();
  question.model.ffn = 1000;
  EXPECT_EQ(advise(question, named_gpu("V100")).advised.model.ffn, 1000);
  EXPECT_EQ(advise(question, named_gpu("A100")).advised.model.ffn, 1024);
  question.element_bytes = 1;
  EXPECT_EQ(question.alignment(named_gpu("H100")), 128);
  question.element_bytes = 4;
  EXPECT_EQ(advise(question, named_gpu("A100")).advised.model.ffn, 1024);
  EXPECT_EQ(question.alignment(named_gpu("A100")), 32);
}

TEST(ShapeAdvice, HeadSizesOf64And128ArePreferred) {
  ShapeQuestion question = gpt2_like();
  EXPECT_FALSE(row(advise(question, named_gpu("A100")), "head size").changes);
  question.model.hidden = 2560;  // GPT-3 2.7B: 32 heads of 80
  question.model.heads = question.model.kv_heads = 32;
  const ShapeAdvice advice = advise(question, named_gpu("A100"));
  EXPECT_EQ(row(advice, "head size").advised, "128");
  EXPECT_THAT(row(advice, "head size").why,
              ::testing::HasSubstr("20 heads instead of 32"));
}

TEST(ShapeAdvice, TensorParallelRanksNeedWholeHeads) {
  ShapeQuestion question = gpt2_like();
  question.tensor_parallel = 8;
  EXPECT_FALSE(row(advise(question, named_gpu("H100")), "KV heads / t").must);
  question.tensor_parallel = 16;
  const Advice kv = row(advise(question, named_gpu("H100")), "KV heads / t");
  EXPECT_TRUE(kv.must);
  EXPECT_EQ(kv.advised, "8 / 8");
}

TEST(ShapeAdvice, AMicrobatchIsProposedWhenWavesFill) {
  // 2048 tokens by 4096: 8 x 32 tiles are 1.9 waves of 132. One token row of
  // tiles less than two waves is good; half of it would be bad.
  ShapeQuestion question = gpt2_like();
  question.sequence = 1152;
  const ShapeAdvice advice = advise(question, named_gpu("H100"));
  EXPECT_EQ(advice.advised.batch, 2);
  EXPECT_GT(row(advice, "microbatch").predicted_gain, 0.03);
  EXPECT_GT(advice.efficiency_advised, advice.efficiency_now);
}

TEST(ForwardMatmuls, CountTheModelsParameters) {
  const ShapeQuestion question = gpt2_like();
  std::int64_t weights = 0;
  for (const MatmulDims& m : forward_matmuls(question)) {
    EXPECT_EQ(m.m, 2048);
    weights += m.n * m.k * m.count;
  }
  const DecoderConfig& model = question.model;
  // All but the embedding and the norms' vectors.
  EXPECT_EQ(weights, model.parameter_count() - model.vocab_size * model.hidden -
                         (2 * model.layers + 1) * model.hidden);
}

TEST(ForwardMatmuls, RanksShareTheWork) {
  ShapeQuestion question = gpt2_like();
  double whole = 0, part = 0;
  for (const auto& m : forward_matmuls(question)) whole += m.flops();
  question.model.vocab_size = 50304;
  question.tensor_parallel = 2;
  for (const auto& m : forward_matmuls(question)) part += m.flops();
  EXPECT_NEAR(part / whole, 0.5, 1e-3);
}

TEST(ShapeAdvice, RefusesSizesBelowOne) {
  ShapeQuestion question = gpt2_like();
  question.tensor_parallel = 0;
  EXPECT_THROW(advise(question, named_gpu("A100")), UsageError);
  question = gpt2_like();
  question.model.heads = 7;
  EXPECT_THROW(advise(question, named_gpu("A100")), UsageError);
}

TEST(Tables, HoldEveryRow) {
  const ShapeAdvice advice = advise(gpt2_like(), named_gpu("H100"));
  EXPECT_THAT(advice_table(advice), ::testing::HasSubstr("50304"));
  EXPECT_THAT(matmul_table(gpt2_like(), advice.advised, named_gpu("H100")),
              ::testing::HasSubstr("lm_head"));
}

}  // namespace
}  // namespace dai::intro
