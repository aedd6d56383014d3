// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/watch.h"

#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ch03_ddp/doctor/handshake.h"
#include "common/torch/c10d_compat.h"
#include "tests/support/distributed_test.h"

namespace dai::ddp {
namespace {

using dai::testing::group;

class HandshakeTest : public ::testing::Test {
 protected:
  const c10::intrusive_ptr<::c10d::Store> store_ =
      c10::make_intrusive<::c10d::HashStore>();
  Handshake first_{store_, "call"}, second_{store_, "call"};
};

TEST_F(HandshakeTest, EqualCallsAgreeInAnyOrderOfArrival) {
  EXPECT_TRUE(first_.agree(1, "a"));
  EXPECT_TRUE(first_.agree(2, "b"));
  EXPECT_TRUE(second_.agree(1, "a"));
  EXPECT_TRUE(second_.agree(2, "b"));
  EXPECT_TRUE(second_.agree(3, "c"));
  EXPECT_TRUE(first_.agree(3, "c"));
}

TEST_F(HandshakeTest, TheSecondToComeIsRefusedFromThenOn) {
  EXPECT_TRUE(first_.agree(1, "sum"));
  EXPECT_FALSE(second_.agree(1, "max"));
  EXPECT_TRUE(first_.agree(2, "x"));
  EXPECT_FALSE(second_.agree(2, "x")) << "its calls are one behind";
}

TEST_F(HandshakeTest, TheSameSignatureUnderAnotherNumberDiffers) {
  EXPECT_TRUE(first_.agree(1, "a"));
  EXPECT_FALSE(second_.agree(1 + Handshake::kSlots, "a"));
}

TEST_F(HandshakeTest, KeysAreUsedAgain) {
  for (std::uint64_t k = 1; k <= 3 * Handshake::kSlots; ++k) {
    // One is up to half the slots ahead.
    ASSERT_TRUE(first_.agree(k, "call")) << k;
    const std::uint64_t behind = Handshake::kSlots / 2;
    if (k > behind) {
      ASSERT_TRUE(second_.agree(k - behind, "call")) << k;
    }
  }
  EXPECT_LE(store_->getNumKeys(),
            static_cast<std::int64_t>(Handshake::kSlots) + 1);
}

// More than one watch in a life, one after the other.
TEST(Watch, SeesTheCallsOfAHealthyGroup) {
  for (int life = 0; life < 2; ++life) {
    Watch watch(group(), launch_context_from_environment());
    for (std::int64_t step = 0; step < 20; ++step) {
      watch.begin_step(step);
      watch.enter("sync");
      at::Tensor ones = at::ones({16});
      group().all_reduce(ones);
      ASSERT_EQ(ones[3].item<double>(), group().size());
      group().broadcast(ones);
    }
    const std::vector<Call> calls = watch.calls();
    ASSERT_EQ(calls.size(), 40u);
    EXPECT_EQ(calls.back().step, 19);
    EXPECT_EQ(calls.back().state, CallState::kDone);
    EXPECT_THAT(calls.back().to_string(),
                ::testing::HasSubstr("watch_test.cpp:"));
    EXPECT_EQ(watch.verdict(), "");
  }
}

TEST(Watch, AFailureOfOneIsHeardByAll) {
  Watch watch(group(), launch_context_from_environment(), {.prints = false});
  group().barrier();
  if (group().rank() == 0) watch.tell_failure("cannot read shard 7");
  EXPECT_THAT(
      watch.await_verdict(20),
      ::testing::HasSubstr("rank failed: rank 0 leaves: cannot read shard 7"));
  group().barrier();  // with rank 0 goes the store
}

}  // namespace
}  // namespace dai::ddp
