// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/first_model.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>

namespace dai::intro {
namespace {

TEST(FirstModel, HasTheShapesOfTheBook) {
  const FirstModel model(1234, at::kCPU);
  ASSERT_EQ(model.parameters().size(), 6u);
  EXPECT_EQ(model.parameters()[0].name, "layer1.weight");
  EXPECT_EQ(model.parameters()[5].name, "layer3.bias");
  EXPECT_EQ(model.flat_parameters().numel(), 235146);
  EXPECT_EQ(model.logits(at::full({3, 784}, 0.5f)).sizes(),
            at::IntArrayRef({3, 10}));
}

TEST(FirstModel, WeightsAreAFunctionOfTheSeed) {
  const at::Tensor first = FirstModel(1234, at::kCPU).flat_parameters();
  EXPECT_TRUE(at::equal(first, FirstModel(1234, at::kCPU).flat_parameters()));
  EXPECT_FALSE(at::equal(first, FirstModel(1235, at::kCPU).flat_parameters()));
  // Element 0 and 1 of layer1.weight, seed 1234, on every machine.
  EXPECT_EQ(first[0].item<float>(), -0x1.dbedf8p-5f);
  EXPECT_EQ(first[1].item<float>(), 0x1.7dd892p-5f);
}

TEST(FirstModel, StartsAsAGuesserAmongTenClasses) {
  const FirstModel model(1234, at::kCPU);
  const at::Tensor loss = model.loss(at::full({4, 784}, 0.1f),
                                     at::tensor({1, 3, 5, 9}).to(at::kLong));
  EXPECT_NEAR(loss.item<float>(), std::log(10.0f), 1.0f);
}

// The slope along one weight, by walking a little to both sides.
TEST(FirstModel, BackwardIsTheSlopeOfTheLoss) {
  FirstModel model(1234, at::kCPU);
  const at::Tensor images = at::full({2, 784}, 0.3f);
  const at::Tensor labels = at::tensor({2, 7}).to(at::kLong);
  model.loss(images, labels).backward();
  for (const auto& parameter : model.parameters()) {
    at::Tensor flat = parameter.tensor.detach().view(-1);
    const at::Tensor gradient = parameter.tensor.grad().view(-1);
    const std::int64_t steepest = gradient.abs().argmax().item<int64_t>();
    const at::NoGradGuard no_grad;
    constexpr float kStep = 1e-2f;
    flat[steepest].add_(kStep);
    const double right = model.loss(images, labels).item<float>();
    flat[steepest].sub_(2 * kStep);
    const double left = model.loss(images, labels).item<float>();
    flat[steepest].add_(kStep);
    const double slope = gradient[steepest].item<float>();
    EXPECT_NEAR((right - left) / (2 * kStep), slope,
                1e-3 + 0.01 * std::abs(slope))
        << parameter.name;
  }
}

}  // namespace
}  // namespace dai::intro
