// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/buckets/gradient_buckets.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "ch03_ddp/reducer/reducer_compat.h"
#include "common/errors.h"
#include "tests/ch03_ddp/support/made_up.h"

namespace dai::ddp {
namespace {

using ::testing::ElementsAre;

std::vector<NamedParameter> of_sizes(const std::vector<std::int64_t>& sizes,
                                     at::ScalarType dtype = at::kFloat) {
  std::vector<NamedParameter> list;
  for (const std::int64_t size : sizes) {
    list.push_back({"p" + std::to_string(list.size()),
                    at::empty({size}, dtype).requires_grad_(true)});
  }
  return list;
}

TEST(PlanBuckets, TheGradientThatReachesTheCapClosesABucket) {
  // 4 bytes an element: 40, 40, 40, 400, 4.
  const auto list = of_sizes({10, 10, 10, 100, 1});
  EXPECT_THAT(plan_buckets(list, {0, 1, 2, 3, 4}, {40, 80}),
              ElementsAre(ElementsAre(0), ElementsAre(1, 2), ElementsAre(3),
                          ElementsAre(4)));
  EXPECT_THAT(plan_buckets(list, expected_ready_order(5), {1, 1 << 20}),
              ElementsAre(ElementsAre(4), ElementsAre(3, 2, 1, 0)));
}

TEST(PlanBuckets, DtypesDoNotMix) {
  auto list = of_sizes({10, 10});
  for (const auto& half : of_sizes({10, 10}, at::kBFloat16)) {
    list.push_back(half);
  }
  EXPECT_THAT(plan_buckets(list, {0, 2, 1, 3}, {1 << 20, 1 << 20}),
              ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3)));
}

TEST(PlanBuckets, EqualsC10dsAssignment) {
  for (int round = 0; round < 50; ++round) {
    std::vector<std::int64_t> sizes;
    const at::Tensor random = testing::noise("sizes", round, {30});
    for (int i = 0; i < 30; ++i) {
      sizes.push_back(1 + std::int64_t(1000 * (random[i].item<double>() + .5)));
    }
    auto list = of_sizes(sizes);
    for (int i = 0; i < 30; i += 7) {
      list[i].tensor = list[i].tensor.detach().to(at::kHalf);
    }
    std::vector<at::Tensor> tensors;
    std::vector<std::size_t> order;
    for (const auto& each : list) {
      order.push_back(tensors.size());
      tensors.push_back(each.tensor);
    }
    const auto [theirs, limits] =
        c10d::compute_bucket_assignment_by_size(tensors, {1000, 5000});
    EXPECT_EQ(plan_buckets(list, order, {1000, 5000}), theirs) << round;
  }
}

TEST(PlanBuckets, RefusesWhatIsNoOrder) {
  const auto list = of_sizes({1, 1});
  EXPECT_THROW(plan_buckets(list, {0, 0}, {}), std::invalid_argument);
  EXPECT_THROW(plan_buckets(list, {0}, {}), std::invalid_argument);
  EXPECT_THROW(plan_buckets(list, {0, 2}, {}), std::invalid_argument);
  EXPECT_THROW(plan_buckets(list, {0, 1}, {0, 1}), UsageError);
  EXPECT_THROW(GradientBuckets(list, {{0}}), std::invalid_argument);
}

TEST(GradientBuckets, AGradientMovesInOnceAndLivesThere) {
  auto list = of_sizes({4, 6});
  list[0].tensor = at::empty({2, 2}).requires_grad_(true);
  GradientBuckets buckets(list, {{1, 0}});
  list[0].tensor.mutable_grad() = at::arange(4).to(at::kFloat).view({2, 2});
  list[1].tensor.mutable_grad() = at::arange(6).to(at::kFloat);
  buckets.take_gradient(0);
  buckets.take_gradient(1);
  buckets.take_gradient(1);
  EXPECT_TRUE(at::equal(
      buckets.flat(0), at::cat({at::arange(6), at::arange(4)}).to(at::kFloat)));
  EXPECT_EQ(list[0].tensor.grad().sizes(), at::IntArrayRef({2, 2}));
  buckets.flat(0).fill_(7);
  EXPECT_EQ(list[0].tensor.grad().sum().item<float>(), 28);
  EXPECT_EQ(list[1].tensor.grad().sum().item<float>(), 42);
}

}  // namespace
}  // namespace dai::ddp
