// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/parameter_bits.h"

#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

namespace dai::intro {
namespace {

TEST(DifferingBits, CountsBitsNotDistances) {
  EXPECT_EQ(differing_bits(at::tensor({1.f, 2.f}), at::tensor({1.f, 2.f})), 0);
  EXPECT_EQ(differing_bits(at::tensor({0.f}), at::tensor({-0.f})), 1);
  EXPECT_EQ(differing_bits(at::tensor({1.f, 1.f}), at::tensor({-1.f, 2.f})),
            1 + 8);
  EXPECT_EQ(differing_bits(at::tensor({1.0, 1.0}), at::tensor({-1.0, 1.0})), 1);
}

TEST(DifferingBits, ComparesOnlyWhatIsAlike) {
  EXPECT_THROW(differing_bits(at::tensor({1.f}), at::tensor({1.f, 1.f})),
               std::invalid_argument);
  EXPECT_THROW(differing_bits(at::tensor({1.f}), at::tensor({1.0})),
               std::invalid_argument);
}

TEST(MaxDifference, NanIsInfinitelyFar) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(max_difference(at::tensor({1.f, 2.f}), at::tensor({1.f, 4.f})), 2);
  EXPECT_TRUE(std::isinf(
      max_difference(at::tensor({1.f, nan}), at::tensor({1.f, 4.f}))));
  EXPECT_TRUE(std::isinf(max_difference(at::tensor({nan}), at::tensor({nan}))));
}

TEST(FlatParameters, AreACopyInTheListsOrder) {
  const at::Tensor matrix = at::tensor({1.f, 2.f, 3.f, 4.f}).view({2, 2});
  const at::Tensor vector = at::tensor({5.f});
  at::Tensor flat = flat_parameters({{"matrix", matrix}, {"vector", vector}});
  EXPECT_TRUE(flat.equal(at::tensor({1.f, 2.f, 3.f, 4.f, 5.f})));
  flat.zero_();
  EXPECT_EQ(vector.item<float>(), 5);
}

}  // namespace
}  // namespace dai::intro
