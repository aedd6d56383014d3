// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/buckets/ready_hooks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/ch03_ddp/support/made_up.h"

namespace dai::ddp {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(ReadyHooks, TellEachGradientOnceFromTheLastLayerOn) {
  const auto weights = testing::layers(3, {4, 5, 2});
  std::vector<std::size_t> ready;
  const ReadyHooks hooks(weights, [&](std::size_t i) {
    EXPECT_TRUE(weights[i].tensor.grad().defined());
    ready.push_back(i);
  });
  testing::loss_of(weights, 0).backward();
  EXPECT_THAT(ready, ElementsAre(2, 1, 0));
}

TEST(ReadyHooks, AParameterThatIsUsedTwiceIsReadyOnce) {
  auto weights = testing::layers(4, {4});
  weights.push_back(weights[0]);  // tied
  int calls = 0;
  const ReadyHooks hooks({weights[0]}, [&](std::size_t) { ++calls; });
  testing::loss_of(weights, 0).backward();
  EXPECT_EQ(calls, 1);
}

TEST(ReadyHooks, FrozenParametersAreNot) {
  auto weights = testing::layers(4, {4, 4});
  weights[0].tensor.requires_grad_(false);
  std::vector<std::size_t> ready;
  const ReadyHooks hooks(weights, [&](std::size_t i) { ready.push_back(i); });
  testing::loss_of(weights, 0).backward();
  EXPECT_THAT(ready, ElementsAre(1));
}

TEST(ReadyHooks, AreGoneWithTheirObject) {
  const auto weights = testing::layers(3, {4});
  std::vector<std::size_t> ready;
  {
    const ReadyHooks hooks(weights, [&](std::size_t i) { ready.push_back(i); });
  }
  testing::loss_of(weights, 0).backward();
  EXPECT_THAT(ready, IsEmpty());
}

TEST(ReadyHooks, WhatTheCallbackThrowsLeavesBackward) {
  const auto weights = testing::layers(3, {4});
  const ReadyHooks hooks(weights,
                         [](std::size_t) { throw std::logic_error("enough"); });
  EXPECT_THROW(testing::loss_of(weights, 0).backward(), std::logic_error);
}

}  // namespace
}  // namespace dai::ddp
