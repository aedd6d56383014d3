// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/profile/flop_counter.h"

#include <ATen/ops/_int_mm.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/einsum.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <stdexcept>

namespace dai::intro {
namespace {

at::Tensor ones(at::IntArrayRef shape, bool grad = false) {
  return at::ones(shape, at::kFloat).requires_grad_(grad);
}

std::int64_t flops_of(const std::function<void()>& work) {
  FlopCounter counter;
  work();
  EXPECT_THAT(counter.unknown(), ::testing::IsEmpty());
  return counter.total();
}

TEST(FlopCounter, ProductsByTheirShapes) {
  const at::Tensor a = ones({3, 5}), b = ones({5, 7});
  EXPECT_EQ(flops_of([&] { a.matmul(b); }), 2 * 3 * 5 * 7);
  EXPECT_EQ(flops_of([&] { at::addmm(ones({7}), a, b); }), 2 * 3 * 5 * 7);
  EXPECT_EQ(flops_of([&] { a.matmul(ones({5})); }), 2 * 3 * 5);
  EXPECT_EQ(flops_of([&] { ones({5}).dot(ones({5})); }), 2 * 5);
  EXPECT_EQ(flops_of([&] { at::bmm(ones({4, 3, 5}), ones({4, 5, 7})); }),
            4 * 2 * 3 * 5 * 7);
  EXPECT_EQ(flops_of([&] {
              at::baddbmm(ones({4, 3, 7}), ones({4, 3, 5}), ones({4, 5, 7}));
            }),
            4 * 2 * 3 * 5 * 7);
  EXPECT_EQ(flops_of([&] {
              at::einsum("bij,bjk->bik", {ones({4, 3, 5}), ones({4, 5, 7})});
            }),
            4 * 2 * 3 * 5 * 7);
}

TEST(FlopCounter, ElementwiseWorkDoesNotCount) {
  EXPECT_EQ(flops_of([&] { at::relu(ones({100}) * 3).sum(); }), 0);
}

// Backward computes two products of the forward's size: for the input and for
// the weight. Without a gradient for the input, one.
TEST(FlopCounter, ALinearLayerForwardAndBackward) {
  const std::int64_t forward = 2 * (2 * 6) * 16 * 24;
  for (const bool input_grad : {true, false}) {
    const at::Tensor x = ones({2, 6, 16}, input_grad);
    const at::Tensor w = ones({24, 16}, true), b = ones({24}, true);
    EXPECT_EQ(flops_of([&] { at::linear(x, w, b).sum().backward(); }),
              forward * (input_grad ? 3 : 2));
  }
}

TEST(FlopCounter, FusedAttentionWhichKinetoCountsAsZero) {
  const std::int64_t b = 2, h = 4, s = 32, d = 8;
  const auto make = [&] { return ones({b, h, s, d}, true); };
  const at::Tensor q = make(), k = make(), v = make();
  at::Tensor out;
  FlopCounter counter;
  out = at::scaled_dot_product_attention(q, k, v, {}, 0.0, /*causal=*/true);
  const std::int64_t product = 2 * b * h * s * s * d;
  EXPECT_EQ(counter.total(), 2 * product);
  EXPECT_EQ(counter.attention(), counter.total());
  out.sum().backward();
  EXPECT_EQ(counter.total(), 2 * product + 5 * product);
  EXPECT_THAT(counter.unknown(), ::testing::IsEmpty());
  EXPECT_EQ(counter.by_operator().size(), 2U);
}

TEST(FlopCounter, Convolutions) {
  // [1, 3, 10, 12], 6 filters of 3 x 3, stride 2, padding 1 -> [1, 6, 5, 6]
  const at::Tensor x = ones({1, 3, 10, 12}, true), w = ones({6, 3, 3, 3}, true);
  const std::int64_t forward = 2 * (6 * 5 * 6) * (3 * 3 * 3);
  EXPECT_EQ(flops_of([&] { at::conv2d(x, w, {}, 2, 1); }), forward);
  EXPECT_EQ(flops_of([&] { at::conv2d(x, w, {}, 2, 1).sum().backward(); }),
            3 * forward);
}

TEST(FlopCounter, AnOperatorWithoutARuleIsNamed) {
  const at::Tensor a = at::ones({32, 32}, at::kChar);
  FlopCounter counter;
  at::_int_mm(a, a);
  EXPECT_THAT(counter.unknown(), ::testing::ElementsAre("aten::_int_mm"));
}

TEST(FlopCounter, CountsOnlyWhileItLives) {
  const at::Tensor a = ones({8, 8});
  a.matmul(a);
  {
    FlopCounter counter;
    EXPECT_THROW(FlopCounter second, std::logic_error);
    a.matmul(a);
    a.matmul(a);
    EXPECT_EQ(counter.by_operator().at("aten::mm").calls, 2);
    counter.reset();
    EXPECT_EQ(counter.total(), 0);
    a.matmul(a);
    EXPECT_EQ(counter.total(), 2 * 8 * 8 * 8);
  }
  FlopCounter next;
  EXPECT_EQ(next.total(), 0);
}

}  // namespace
}  // namespace dai::intro
