// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/precision/master_weights.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include "ch01_intro/trainer/adamw.h"
#include "tests/ch03_ddp/support/made_up.h"

namespace dai::ddp {
namespace {

using intro::NamedParameter;

// At 1.0 bfloat16's steps are 2^-7: an update of 1e-3 rounds to nothing, and
// ten of them to one step, but only where somebody remembers them.
TEST(MasterWeights, RememberUpdatesThatHalfPrecisionLoses) {
  const NamedParameter w{"w", at::full({4}, 1.f).requires_grad_(true)};
  to_half({w}, at::kBFloat16);
  MasterWeights masters({w});
  intro::AdamW optimizer(masters, {.weight_decay = 0});
  at::Tensor naive = w.tensor.detach().clone();
  for (int step = 0; step < 10; ++step) {
    w.tensor.mutable_grad() = at::full({4}, 1.f, at::kBFloat16);
    masters.take_gradients();
    EXPECT_FALSE(w.tensor.grad().defined());
    optimizer.step(1e-3);  // Adam's step is the rate, for gradients that agree
    masters.after_update();
    naive.sub_(1e-3);
  }
  EXPECT_EQ(naive[0].item<float>(), 1);
  EXPECT_NEAR(masters.masters()[0].tensor[0].item<float>(), 0.99, 1e-4);
  EXPECT_NEAR(w.tensor[0].item<float>(), 0.99, 1.0 / 256);
  EXPECT_LT(w.tensor[0].item<float>(), 1);
  EXPECT_EQ(w.tensor.scalar_type(), at::kBFloat16);
}

TEST(MasterWeights, GradientsAreFloat32AndNamedAsTheModels) {
  const auto weights = testing::layers(4, {5, 3});
  to_half(weights, at::kBFloat16);
  MasterWeights masters(weights);
  for (const auto& w : weights) {
    w.tensor.mutable_grad() = at::full(w.tensor.sizes(), 3.f, at::kBFloat16);
  }
  masters.take_gradients();
  const auto slices = masters.slices();
  ASSERT_EQ(slices.size(), 2u);
  EXPECT_EQ(slices[1].name, "layers.1.weight");
  EXPECT_EQ(slices[1].grad.scalar_type(), at::kFloat);
  EXPECT_EQ(slices[1].grad.sum().item<float>(), 45);
}

}  // namespace
}  // namespace dai::ddp
