// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/trainer/parameter_view.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

namespace dai::intro {
namespace {

NamedParameter parameter(const std::string& name, at::IntArrayRef shape,
                         float grad) {
  at::Tensor tensor = at::zeros(shape, at::kFloat).requires_grad_();
  tensor.mutable_grad() = at::full(shape, grad, at::kFloat);
  return {name, tensor};
}

TEST(WholeParameters, SlicesShareTheParametersMemory) {
  const NamedParameter w = parameter("w", {2, 3}, 1),
                       n = parameter("n", {3}, 1);
  WholeParameters view({w, n});
  auto slices = view.slices();
  ASSERT_EQ(slices.size(), 2U);
  EXPECT_TRUE(slices[0].decays);
  EXPECT_FALSE(slices[1].decays);  // a vector: a norm's weight
  slices[0].value.fill_(7);
  EXPECT_EQ(w.tensor.sum().item<float>(), 42);
  EXPECT_EQ(slices[0].grad.data_ptr(), w.tensor.grad().data_ptr());
}

TEST(WholeParameters, BlocksHoldTheSquaresOfTheirElements) {
  // 2 blocks and a rest of 3; 3 elements; a block exactly.
  WholeParameters view({parameter("a", {2 * kNormBlock + 3}, 2),
                        parameter("b", {3, 1}, 3),
                        parameter("c", {kNormBlock}, 1)});
  const at::Tensor blocks = view.squared_norm_blocks();
  ASSERT_EQ(blocks.numel(), 5);
  const double expected[] = {4.0 * kNormBlock, 4.0 * kNormBlock, 12, 27,
                             1.0 * kNormBlock};
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(blocks[i].item<double>(), expected[i]) << i;
  }
  double total = 0;
  for (const double block : expected) total += block;
  EXPECT_EQ(gradient_norm(view), std::sqrt(total));
}

TEST(WholeParameters, AMissingGradientIsNamed) {
  const NamedParameter w = parameter("layers.3.weight", {2}, 1);
  w.tensor.mutable_grad().reset();
  WholeParameters view({w});
  try {
    view.squared_norm_blocks();
    FAIL();
  } catch (const std::logic_error& error) {
    EXPECT_NE(std::string(error.what()).find("layers.3.weight"),
              std::string::npos);
  }
}

TEST(ClipGradients, ScalesDownToTheLimitAndNeverUp) {
  const NamedParameter w = parameter("w", {2}, 0);
  w.tensor.grad()[0] = 3;
  w.tensor.grad()[1] = 4;
  WholeParameters view({w});
  EXPECT_DOUBLE_EQ(clip_gradients(view, 0), 5);  // 0 only measures
  EXPECT_DOUBLE_EQ(clip_gradients(view, 10), 5);
  EXPECT_EQ(w.tensor.grad()[1].item<float>(), 4);
  EXPECT_DOUBLE_EQ(clip_gradients(view, 1), 5);
  EXPECT_FLOAT_EQ(w.tensor.grad()[0].item<float>(), 0.6f);
  EXPECT_FLOAT_EQ(w.tensor.grad()[1].item<float>(), 0.8f);
}

TEST(ClipGradients, LeavesWhatIsNotFiniteToTheLossWatch) {
  const NamedParameter w = parameter("w", {2}, 1);
  w.tensor.grad()[0] = std::numeric_limits<float>::infinity();
  WholeParameters view({w});
  EXPECT_FALSE(std::isfinite(clip_gradients(view, 1)));
  EXPECT_EQ(w.tensor.grad()[1].item<float>(), 1);
}

}  // namespace
}  // namespace dai::intro
