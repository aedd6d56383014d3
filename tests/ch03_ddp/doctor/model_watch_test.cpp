// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/model_watch.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/log.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tanh.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>

namespace dai::ddp {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(Fingerprint, IsOfTheBytes) {
  const at::Tensor tensor = at::arange(1003, at::kFloat);
  EXPECT_EQ(fingerprint(tensor), fingerprint(tensor.clone()));
  EXPECT_EQ(fingerprint(tensor.view({17, 59})), fingerprint(tensor));
  // Each element counts, whichever lane it falls into, and so does its place.
  std::set<std::uint64_t> seen{fingerprint(tensor)};
  for (std::int64_t at = 0; at < tensor.numel(); at += 1) {
    at::Tensor other = tensor.clone();
    other[at].add_(1e-3);
    if (at == 0) other[at].fill_(1);
    EXPECT_TRUE(seen.insert(fingerprint(other)).second) << at;
  }
  EXPECT_TRUE(seen.insert(fingerprint(tensor.flip(0))).second);
  EXPECT_TRUE(seen.insert(fingerprint(tensor.slice(0, 0, 1002))).second);
  EXPECT_TRUE(seen.insert(fingerprint(at::ones({0}))).second);
}

class FirstNotFinite : public ::testing::Test {
 protected:
  std::string in(const at::Tensor& x) {
    return first_not_finite({{"up.weight", up_}, {"out.weight", out_}}, [&] {
      at::linear(at::log(at::tanh(at::linear(x, up_))), out_);
    });
  }
  at::Tensor x_ = at::ones({2, 3});
  at::Tensor up_ = at::full({4, 3}, 0.5), out_ = at::full({1, 4}, 0.5);
};

TEST_F(FirstNotFinite, SaysNothingWhereAllIsFinite) {
  EXPECT_EQ(in(x_), "");
}

TEST_F(FirstNotFinite, NamesTheWeightThatIsNot) {
  out_[0][2].fill_(kInfinity);
  EXPECT_EQ(in(x_), "out.weight is not finite");
}

TEST_F(FirstNotFinite, NamesTheOperatorAndItsWeight) {
  up_.fill_(3e38);
  EXPECT_EQ(in(x_), "aten::linear of up.weight");
}

TEST_F(FirstNotFinite, NamesTheOperatorAfterAWeight) {
  up_.fill_(-0.5);  // the logarithm of something negative
  EXPECT_EQ(in(x_), "aten::log after aten::linear of up.weight");
}

TEST_F(FirstNotFinite, AnInputComesFromOutside) {
  x_[1][1].fill_(std::numeric_limits<float>::quiet_NaN());
  EXPECT_EQ(in(x_), "an input of aten::linear is not finite");
}

// Masks are full of it.
TEST_F(FirstNotFinite, MinusInfinityIsNoFault) {
  EXPECT_EQ(
      first_not_finite({}, [&] { (at::full({3}, -kInfinity) + x_).exp(); }),
      "");
}

}  // namespace
}  // namespace dai::ddp
