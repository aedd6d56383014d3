// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/call_log.h"

#include <gtest/gtest.h>

namespace dai::ddp {
namespace {

constexpr double kSecond = 1e6;

Call at(std::uint64_t sequence, double begun_us,
        const char* op = "all_reduce") {
  Call call;
  call.event.sequence = sequence;
  call.event.op = op;
  call.begun_us = begun_us;
  return call;
}

TEST(CallLog, TheOldestCollectiveInFlightIsWhereARankIs) {
  CallLog log;
  EXPECT_FALSE(log.current());
  log.begin(at(1, 0, "recv"));
  EXPECT_EQ(log.current()->event.op, "recv");
  log.begin(at(1, 10));
  log.begin(at(2, 20));
  EXPECT_EQ(log.current()->event.label(), "all_reduce #1");
  log.end(at(1, 0).event, CallState::kDone, 30);
  EXPECT_EQ(log.current()->event.label(), "all_reduce #2");
  EXPECT_EQ(log.issued(), 2u);
  EXPECT_EQ(log.finished(), 1u);
  EXPECT_EQ(log.last_finished()->event.label(), "all_reduce #1");
}

TEST(CallLog, ARefusedCallHoldsARankUp) {
  CallLog log;
  log.begin(at(1, 0));
  log.end(at(1, 0).event, CallState::kRefused, 5);
  log.end(at(1, 0).event, CallState::kFailed, 6);
  ASSERT_TRUE(log.current());
  EXPECT_EQ(log.current()->state, CallState::kRefused);
  EXPECT_EQ(log.finished(), 0u);
}

TEST(CallLog, PatienceIsOfWhatACallUsuallyTakes) {
  CallLog log;
  EXPECT_EQ(log.patience_s(at(1, 0)), 5) << "a first call";
  double now = 0;
  std::uint64_t sequence = 0;
  for (const double seconds : {0.7, 0.1, 0.8, 9.0, 0.75}) {
    log.begin(at(++sequence, now));
    now += seconds * kSecond;
    log.end(at(sequence, 0).event, CallState::kDone, now);
  }
  EXPECT_DOUBLE_EQ(log.patience_s(at(9, 0)), 5 * 0.75);
  for (int k = 0; k < 40; ++k) {
    log.begin(at(++sequence, now));
    now += 0.01 * kSecond;
    log.end(at(sequence, 0).event, CallState::kDone, now);
  }
  EXPECT_EQ(log.patience_s(at(9, 0)), 1) << "at least a second";
  Call other = at(9, 0);
  other.event.where = "elsewhere.cpp:1";
  EXPECT_EQ(log.patience_s(other), 5);
}

TEST(CallLog, OverlappingCallsAreWaitedForOnce) {
  CallLog log;
  log.begin(at(1, 0));
  log.begin(at(2, 2000));
  log.end(at(1, 0).event, CallState::kDone, 3000);
  log.end(at(2, 0).event, CallState::kDone, 5000);
  log.begin(at(3, 9000));
  EXPECT_DOUBLE_EQ(log.take_waited_ms(10000), 5 + 1);
  EXPECT_DOUBLE_EQ(log.take_waited_ms(12000), 2);
}

TEST(CallLog, ForgetsTheOldestButNoneInFlight) {
  CallLog log(3);
  for (std::uint64_t k = 1; k <= 9; ++k) {
    log.begin(at(k, 0));
    if (k > 6) log.end(at(k, 0).event, CallState::kDone, 1);
  }
  EXPECT_EQ(log.last(99).size(), 3u);
  EXPECT_EQ(log.last(1).front().event.sequence, 9u);
  CallLog other(3);
  for (std::uint64_t k = 1; k <= 9; ++k) {
    other.begin(at(k, 0));
    if (k > 1) other.end(at(k, 0).event, CallState::kDone, 1);
  }
  EXPECT_EQ(other.current()->event.sequence, 1u);
  EXPECT_EQ(other.last(2).front().event.sequence, 8u);
}

}  // namespace
}  // namespace dai::ddp
