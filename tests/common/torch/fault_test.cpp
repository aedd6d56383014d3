// SPDX-License-Identifier: Apache-2.0

// One rank of three dies or stops without telling anybody; no launcher helps.
// The others end by themselves, non-zero, soon, with one line that says why.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>

#include "tests/support/child_ranks.h"

namespace dai::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

std::vector<ChildResult> run(int faulty, const std::string& fault,
                             const std::string& timeout_s,
                             std::chrono::milliseconds limit) {
  Listener listener;
  ChildRanks ranks("connect_probe");
  for (int rank = 0; rank < 3; ++rank) {
    ChildEnvironment env{{"RANK", std::to_string(rank)},
                         {"LOCAL_RANK", std::to_string(rank)},
                         {"WORLD_SIZE", "3"},
                         {"LOCAL_WORLD_SIZE", "3"},
                         {"MASTER_ADDR", "127.0.0.1"},
                         {"MASTER_PORT", std::to_string(listener.port())}};
    if (rank == 0) env["DAI_MASTER_LISTEN_FD"] = std::to_string(listener.fd());
    ranks.start(
        {"--timeout-s", timeout_s, "--fault", rank == faulty ? fault : "none"},
        env, rank == 0 ? listener.fd() : -1);
  }
  return ranks.wait(limit);
}

void expect_one_error_line(const ChildResult& result, const char* says) {
  EXPECT_EQ(result.code, 1) << result.output;
  EXPECT_THAT(result.output, HasSubstr(says));
  std::size_t lines = 0;
  for (std::size_t at = 0;
       (at = result.output.find("connect_probe: ", at)) != std::string::npos;
       ++at) {
    ++lines;
  }
  EXPECT_EQ(lines, 1U) << result.output;
  EXPECT_LE(std::count(result.output.begin(), result.output.end(), '\n'), 2)
      << result.output;  // rank 0 may have printed its first line
}

// 60 s time-out, 30 s limit: who waited for the time-out has failed.
TEST(Fault, DeathInACollectiveEndsAll) {
  for (const char* fault : {"kill", "kill_in_collective"}) {
    for (const int faulty : {0, 1}) {
      const auto results = run(faulty, fault, "60", 30s);
      EXPECT_EQ(results[faulty].code, 128 + SIGKILL);
      for (int rank = 0; rank < 3; ++rank) {
        if (rank == faulty) continue;
        expect_one_error_line(results[rank],
                              "all_reduce #2 (float32[1048576], sum, at "
                              "connect_probe.cpp:");
        EXPECT_THAT(results[rank].output, HasSubstr("did a rank die?"));
      }
    }
  }
}

TEST(Fault, DeathAtTheEndIsNotMissed) {
  for (const int faulty : {0, 2}) {
    const auto results = run(faulty, "kill_at_exit", "60", 30s);
    EXPECT_EQ(results[faulty].code, 128 + SIGKILL);
    for (int rank = 0; rank < 3; ++rank) {
      if (rank != faulty) expect_one_error_line(results[rank], "barrier #4");
    }
  }
}

TEST(Fault, AnExceptionOnOneRankEndsAll) {
  const auto results = run(1, "throw", "60", 30s);
  expect_one_error_line(results[1], "this rank gives up");
  expect_one_error_line(results[0], "did a rank die?");
  expect_one_error_line(results[2], "did a rank die?");
}

TEST(Fault, AStoppedRankIsGivenUpAtTheTimeOut) {
  const auto results = run(1, "stop", "3", 20s);
  EXPECT_TRUE(results[1].stopped);
  for (const int rank : {0, 2}) {
    expect_one_error_line(results[rank], "all_reduce #2");
    EXPECT_LT(results[rank].seconds, 15);
  }
  EXPECT_THAT(results[0].output + results[2].output,
              HasSubstr("timed out after 3 s"));
}

}  // namespace
}  // namespace dai::testing
