// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/baseline/reference_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/torch/device.h"

namespace dai::intro {
namespace {

TEST(ReferenceCase, BothRungsTrainAsPythonDoes) {
  set_deterministic_threads();
  for (const DecoderOps* ops : {&naive_ops(), &fused_ops()}) {
    const auto cases = compare_with_reference(*ops, at::kCPU);
    ASSERT_EQ(cases.size(), 2u);
    EXPECT_EQ(cases[0].gradients, 110);  // every parameter of nano-1m
    EXPECT_EQ(cases[0].kv_heads, cases[0].heads);
    EXPECT_EQ(cases[1].gradients, 20);
    EXPECT_EQ(3 * cases[1].kv_heads, cases[1].heads);  // grouped queries
    for (const ReferenceComparison& c : cases) {
      EXPECT_EQ(c.losses.size(), 10u);
      EXPECT_LE(c.loss_error, 1e-5) << ops->name;
      EXPECT_LE(c.norm_error, 1e-4) << ops->name;
      EXPECT_LE(c.gradient_error, 1e-5) << ops->name << " " << c.worst_gradient;
    }
  }
}

// A rung whose norm takes another epsilon than the reference's.
at::Tensor slightly_off(const at::Tensor& x, const at::Tensor& weight,
                        double eps) {
  return naive_ops().rms_norm(x, weight, eps * 1.5);
}

TEST(ReferenceCase, AnEpsilonOffByHalfIsSeen) {
  set_deterministic_threads();
  DecoderOps wrong = naive_ops();
  wrong.rms_norm = slightly_off;
  for (const auto& c : compare_with_reference(wrong, at::kCPU)) {
    EXPECT_GT(c.loss_error, 1e-5);
    EXPECT_GT(c.norm_error, 1e-4);
    EXPECT_GT(c.gradient_error, 1e-5);
  }
}

}  // namespace
}  // namespace dai::intro
