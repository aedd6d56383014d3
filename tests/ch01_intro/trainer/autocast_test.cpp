// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/trainer/autocast.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "common/errors.h"

namespace dai::intro {
namespace {

const at::Device kCpu(at::kCPU);

at::ScalarType dtype_of_a_product() {
  const at::Tensor a = at::ones({4, 4}, at::kFloat);
  return a.matmul(a).scalar_type();
}

TEST(Autocast, MatrixProductsAreBf16InsideAndFp32Outside) {
  EXPECT_EQ(dtype_of_a_product(), at::kFloat);
  {
    Autocast bf16(Precision::kBf16, kCpu);
    EXPECT_EQ(dtype_of_a_product(), at::kBFloat16);
    {
      Autocast fp32(Precision::kFp32, kCpu);
      EXPECT_EQ(dtype_of_a_product(), at::kFloat);
    }
    EXPECT_EQ(dtype_of_a_product(), at::kBFloat16);
  }
  EXPECT_EQ(dtype_of_a_product(), at::kFloat);
}

TEST(Autocast, Float16InsideBfloat16AndBack) {
  Autocast bf16(Precision::kBf16, kCpu);
  {
    Autocast fp16(Precision::kFp16, kCpu);
    EXPECT_EQ(dtype_of_a_product(), at::kHalf);
  }
  EXPECT_EQ(dtype_of_a_product(), at::kBFloat16);
}

TEST(Autocast, GradientsOfFp32WeightsAreFp32) {
  at::Tensor weight = at::ones({4, 4}, at::kFloat).requires_grad_();
  at::Tensor loss;
  {
    Autocast bf16(Precision::kBf16, kCpu);
    loss = at::ones({2, 4}, at::kFloat).matmul(weight).sum();
  }
  loss.backward();
  EXPECT_EQ(weight.grad().scalar_type(), at::kFloat);
  EXPECT_EQ(weight.grad()[0][0].item<float>(), 2);
}

TEST(Autocast, NoCastSurvivesTheOutermostGuard) {
  at::Tensor weight = at::ones({4, 4}, at::kFloat).requires_grad_();
  const auto product = [&] {
    Autocast bf16(Precision::kBf16, kCpu);
    return at::ones({1, 4}, at::kFloat).matmul(weight)[0][0].item<float>();
  };
  EXPECT_EQ(product(), 4);
  weight.detach().fill_(2);  // an optimizer's step; a stale cast would give 4
  EXPECT_EQ(product(), 8);
}

TEST(Autocast, AnExceptionRestoresWhatWas) {
  try {
    Autocast bf16(Precision::kBf16, kCpu);
    throw std::runtime_error("in forward");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(dtype_of_a_product(), at::kFloat);
}

TEST(Autocast, NamesAreChecked) {
  EXPECT_EQ(precision_from_string("bf16"), Precision::kBf16);
  EXPECT_STREQ(to_string(precision_from_string("fp32")), "fp32");
  EXPECT_STREQ(to_string(precision_from_string("fp16")), "fp16");
  EXPECT_THROW(precision_from_string("fp8"), UsageError);
}

}  // namespace
}  // namespace dai::intro
