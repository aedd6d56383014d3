// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/rank_report.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>
#include <stdexcept>

namespace dai::ddp {
namespace {

RankReport full_report() {
  RankReport report;
  report.rank = 3;
  report.host = "node1";
  report.pid = 77;
  report.beat = 12;
  report.step = 5;
  report.phase = "backward";
  report.phase_s = 0.25;
  report.failure = "no \"space\" left\n";
  report.failed_in_call = true;
  report.heard = true;
  report.issued = 21;
  report.finished = 20;
  Call call;
  call.event.sequence = 21;
  call.event.op = "all_reduce";
  call.event.shape = {2, 3};
  call.event.dtype = "float32";
  call.event.subject = "bucket 1";
  call.step = 5;
  call.state = CallState::kRefused;
  report.current = report.last_finished = call;
  report.calls = {call, call};
  report.neighbours = {{2, ProcessState::kStopped}};
  return report;
}

TEST(RankReport, ComesBackAsItWas) {
  const RankReport report = full_report();
  const RankReport back = rank_report_from_json(report.to_json());
  EXPECT_EQ(back.to_json(), report.to_json());
  EXPECT_EQ(back.current->signature(), report.current->signature());
  EXPECT_EQ(back.neighbours, report.neighbours);
  EXPECT_TRUE(back.refused());
}

// It comes over a network.
TEST(RankReport, WhatIsNoneIsRefused) {
  const std::string text = full_report().to_json();
  for (std::size_t size = 0; size < text.size(); ++size) {
    EXPECT_THROW(rank_report_from_json(text.substr(0, size)),
                 std::runtime_error);
  }
  std::mt19937 random(1234);
  for (int k = 0; k < 20000; ++k) {
    std::string other = text;
    other[random() % other.size()] = static_cast<char>(random() % 256);
    try {
      rank_report_from_json(other);
    } catch (const std::runtime_error&) {
    }
  }
}

TEST(LookAtProcess, TellsTheLivingFromTheDead) {
  EXPECT_EQ(look_at_process(getpid()), ProcessState::kAlive);
  const pid_t child = fork();
  if (child == 0) {
    while (true) pause();
  }
  ASSERT_GT(child, 0);
  EXPECT_EQ(look_at_process(child), ProcessState::kAlive);
  ASSERT_EQ(kill(child, SIGSTOP), 0);
  waitpid(child, nullptr, WUNTRACED);
  EXPECT_EQ(look_at_process(child), ProcessState::kStopped);
  ASSERT_EQ(kill(child, SIGKILL), 0);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT),
            0);
  EXPECT_EQ(look_at_process(child), ProcessState::kDead) << "a zombie";
  waitpid(child, nullptr, 0);
  EXPECT_EQ(look_at_process(child), ProcessState::kDead);
}

}  // namespace
}  // namespace dai::ddp
