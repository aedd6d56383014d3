// SPDX-License-Identifier: Apache-2.0

// The count on paper and the count of what ran, on one decoder.

#include <ATen/ops/randint.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "ch01_intro/decoder/decoder.h"
#include "ch01_intro/profile/analytic_flops.h"
#include "ch01_intro/profile/flop_counter.h"

namespace dai::intro {
namespace {

void expect_equal_counts(const std::string& model, std::int64_t batch,
                         std::int64_t seq, const DecoderOps& ops) {
  const DecoderConfig config = decoder_config(model);
  DecoderParts parts(config, {.ops = &ops});
  const Decoder decoder(parts);
  const at::Tensor tokens = at::randint(config.vocab_size, {batch, seq},
                                        at::TensorOptions(at::kLong));
  const StepFlops expected = analytic_flops(
      config, batch, seq, {.head_gradient_in_forward = &ops == &fused_ops()});

  FlopCounter counter;
  const at::Tensor loss = decoder.loss(tokens, tokens);
  EXPECT_EQ(counter.total(), expected.forward()) << model;
  loss.backward();
  EXPECT_EQ(counter.total(), expected.total()) << model;
  EXPECT_EQ(counter.attention(), expected.term("attention").forward +
                                     expected.term("attention").backward)
      << model;
  EXPECT_THAT(counter.unknown(), ::testing::IsEmpty()) << model;
}

void expect_equal_counts(const std::string& model, std::int64_t batch,
                         std::int64_t seq) {
  for (const DecoderOps* ops : {&naive_ops(), &fused_ops()}) {
    SCOPED_TRACE(ops->name);
    expect_equal_counts(model, batch, seq, *ops);
  }
}

TEST(DecoderFlops, CounterEqualsThePaperForwardAndBackward) {
  expect_equal_counts("nano-1m", 2, 24);
  expect_equal_counts("nano-1m", 1, 1);
}

TEST(DecoderFlops, WithSizesThatDivideByNothing) {
  expect_equal_counts("odd-1m", 3, 37);
}

TEST(DecoderFlops, WithFewerKeysThanQueries) {
  expect_equal_counts("medium-28m", 1, 16);
}

}  // namespace
}  // namespace dai::intro
