// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/hooks/block_int8.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/ch03_ddp/support/made_up.h"

namespace dai::ddp {
namespace {

at::Tensor there_and_back(const at::Tensor& numbers) {
  const at::Tensor bytes = pack_int8(numbers);
  EXPECT_EQ(bytes.size(1), int8_bytes(numbers.size(1)));
  return unpack_int8(bytes, numbers.size(1));
}

TEST(BlockInt8, ErrsByAtMostHalfAStepOfItsBlock) {
  const at::Tensor x = testing::noise("x", 0, {3, 4 * kInt8Block});
  x.narrow(1, 0, kInt8Block).mul_(1e6);  // beside small ones
  const at::Tensor error =
      (there_and_back(x) - x).abs().view({3, 4, kInt8Block}).amax(-1);
  const at::Tensor step = x.abs().view({3, 4, kInt8Block}).amax(-1) / 127;
  EXPECT_LE((error / step).max().item<float>(), 0.5 + 1e-5);
  EXPECT_GT((error / step).max().item<float>(), 0.4);  // it does round
}

TEST(BlockInt8, WholeStepsAndZerosAreExact) {
  const at::Tensor x = at::zeros({1, 2 * kInt8Block});
  x.narrow(1, 0, 255).copy_((at::arange(255) - 127).view({1, 255}));
  EXPECT_TRUE(at::equal(there_and_back(x), x));
}

TEST(BlockInt8, WhatIsNotFiniteSpoilsItsBlockVisibly) {
  for (const float bad : {std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    const at::Tensor x = testing::noise("x", 0, {1, 2 * kInt8Block});
    x[0][3] = bad;
    const at::Tensor y = there_and_back(x);
    EXPECT_TRUE(y.narrow(1, 0, kInt8Block).isnan().all().item<bool>()) << bad;
    EXPECT_TRUE(
        y.narrow(1, kInt8Block, kInt8Block).isfinite().all().item<bool>());
  }
}

}  // namespace
}  // namespace dai::ddp
