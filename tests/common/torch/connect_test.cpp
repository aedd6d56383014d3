// SPDX-License-Identifier: Apache-2.0

// How ranks meet, and how they say that they cannot. Each rank is a process
// of its own with a hand-made environment; no launcher helps or kills.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "tests/support/child_ranks.h"

namespace dai::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Words = std::vector<std::string>;

ChildEnvironment environment(int rank, int world_size, int port,
                             const std::string& host = "127.0.0.1") {
  return {{"RANK", std::to_string(rank)},
          {"LOCAL_RANK", std::to_string(rank)},
          {"WORLD_SIZE", std::to_string(world_size)},
          {"LOCAL_WORLD_SIZE", std::to_string(world_size)},
          {"MASTER_ADDR", host},
          {"MASTER_PORT", std::to_string(port)}};
}

// Ranks with arguments of their own; rank 0 gets a listening socket, as from
// dai_launch, so that no two tests meet on a port.
std::vector<ChildResult> run(const std::vector<Words>& arguments,
                             std::chrono::milliseconds limit = 30s) {
  const int size = static_cast<int>(arguments.size());
  Listener listener;
  ChildRanks ranks("connect_probe");
  for (int rank = 0; rank < size; ++rank) {
    ChildEnvironment env = environment(rank, size, listener.port());
    if (rank == 0) env["DAI_MASTER_LISTEN_FD"] = std::to_string(listener.fd());
    ranks.start(arguments[rank], env, rank == 0 ? listener.fd() : -1);
  }
  return ranks.wait(limit);
}

TEST(Connect, OneRankNeedsNoLauncher) {
  ChildRanks ranks("connect_probe");
  ranks.start({}, {});
  const ChildResult result = ranks.wait(30s)[0];
  EXPECT_EQ(result.code, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("gloo via 127.0.0.1, 1 rank,"));
}

TEST(Connect, RanksMeetAtAnInheritedSocket) {
  for (const ChildResult& rank : run({{}, {}, {}})) {
    EXPECT_EQ(rank.code, 0) << rank.output;
  }
}

TEST(Connect, RanksMeetAtAPortAnyOrder) {
  int port = 0;
  {
    port = Listener().port();
  }  // free a moment ago
  ChildRanks ranks("connect_probe");
  ranks.start({}, environment(1, 2, port));
  usleep(300'000);  // rank 1 knocks before anybody listens
  ranks.start({}, environment(0, 2, port));
  for (const ChildResult& rank : ranks.wait(30s)) {
    EXPECT_EQ(rank.code, 0) << rank.output;
  }
}

// Open MPI's environment names no address: rank 0 leaves its port in a file.
TEST(Connect, RanksMeetAtAFile) {
  namespace fs = std::filesystem;
  std::string folder = fs::temp_directory_path() / "dai_meet_XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  ChildRanks ranks("connect_probe");
  for (int rank = 0; rank < 2; ++rank) {
    ranks.start({}, {{"OMPI_COMM_WORLD_RANK", std::to_string(rank)},
                     {"OMPI_COMM_WORLD_SIZE", "2"},
                     {"OMPI_COMM_WORLD_LOCAL_RANK", std::to_string(rank)},
                     {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                     {"TMPDIR", folder}});
  }
  for (const ChildResult& rank : ranks.wait(30s)) {
    EXPECT_EQ(rank.code, 0) << rank.output;
  }
  EXPECT_TRUE(fs::is_empty(folder)) << "the meeting file was left behind";
  fs::remove_all(folder);
}

TEST(Connect, WorldSizeMismatchIsNamed) {
  Listener listener;
  ChildRanks ranks("connect_probe");
  ChildEnvironment rank0 = environment(0, 2, listener.port());
  rank0["DAI_MASTER_LISTEN_FD"] = std::to_string(listener.fd());
  ranks.start({}, rank0, listener.fd());
  ranks.start({}, environment(1, 3, listener.port()));
  const auto results = ranks.wait(20s);
  EXPECT_EQ(results[0].code, 2);
  EXPECT_EQ(results[1].code, 2);
  EXPECT_THAT(results[1].output,
              HasSubstr("rank 1 was launched with WORLD_SIZE=3, rank 0 with "
                        "WORLD_SIZE=2"));
}

TEST(Connect, DifferentProgramsAreNamed) {
  const auto results = run({{}, {"--fingerprint", "other"}});
  EXPECT_EQ(results[0].code, 2);
  EXPECT_THAT(results[1].output,
              HasSubstr("rank 1 runs \"other\", rank 0 runs \"probe\""));
}

TEST(Connect, MissingRanksAreNamedAtTheTimeOut) {
  Listener listener;
  ChildRanks ranks("connect_probe");
  for (int rank = 0; rank < 2; ++rank) {
    ChildEnvironment env = environment(rank, 4, listener.port());
    if (rank == 0) env["DAI_MASTER_LISTEN_FD"] = std::to_string(listener.fd());
    ranks.start({"--timeout-s", "2"}, env, rank == 0 ? listener.fd() : -1);
  }
  for (const ChildResult& rank : ranks.wait(20s)) {
    EXPECT_EQ(rank.code, 1);
    EXPECT_THAT(rank.output,
                HasSubstr("ranks 2, 3 did not arrive within 2 s\n"));
  }
}

struct PreflightCase {
  const char* kind;
  int code;
  const char* line;
};

TEST(Connect, WhatOneRankLacksEndsAllInTheSameWay) {
  for (const PreflightCase& c :
       {PreflightCase{"usage", 2, "data.gz is truncated\n"},
        PreflightCase{"unavailable", 77, "needs 2 GPUs, found 0\n"},
        PreflightCase{"failed", 1, "disk on fire\n"}}) {
    const auto results = run({{}, {"--preflight", c.kind}, {}});
    for (int rank = 0; rank < 3; ++rank) {
      EXPECT_EQ(results[rank].code, c.code) << results[rank].output;
      EXPECT_THAT(
          results[rank].output,
          HasSubstr(rank == 1 ? c.line : std::string("rank 1: ") + c.line));
    }
  }
}

TEST(Connect, WorstOfSeveralErrorsIsEverybodys) {
  const auto results =
      run({{}, {"--preflight", "unavailable"}, {"--preflight", "failed"}});
  EXPECT_EQ(results[0].code, 1);
  EXPECT_THAT(results[0].output, HasSubstr("rank 2: disk on fire"));
}

TEST(Connect, CudaIsRefusedWhereThereIsNone) {
  if (std::filesystem::exists("/dev/nvidiactl")) return;
  const auto results = run({{"--device", "cuda"}, {"--device", "cuda"}});
  EXPECT_EQ(results[0].code, 77);
  EXPECT_THAT(results[0].output, HasSubstr("needs a CUDA device, found 0"));
  EXPECT_EQ(run({{"--backend", "nccl"}})[0].code, 77);
  EXPECT_EQ(run({{"--backend", "nccl", "--device", "cpu"}})[0].code, 2);
}

TEST(Connect, UnknownInterfaceIsRefused) {
  const auto results = run({{"--interface", "nosuch0"}, {}});
  EXPECT_EQ(results[0].code, 2) << results[0].output;
  EXPECT_EQ(results[1].code, 2) << results[1].output;
  EXPECT_THAT(results[0].output, HasSubstr("--interface nosuch0"));
}

TEST(Connect, PortInUseIsNamed) {
  Listener foreign;  // answers nothing, ever
  ChildRanks ranks("connect_probe");
  ranks.start({"--timeout-s", "2"}, environment(0, 2, foreign.port()));
  ranks.start({"--timeout-s", "2"}, environment(1, 2, foreign.port()));
  const auto results = ranks.wait(10s);
  EXPECT_EQ(results[0].code, 1);
  EXPECT_THAT(results[0].output, AllOf(HasSubstr("cannot serve on port"),
                                       HasSubstr("another process")));
  EXPECT_EQ(results[1].code, 1);
  EXPECT_THAT(results[1].output, HasSubstr("found no store of rank 0"));
}

TEST(Connect, UnknownMasterIsNamed) {
  ChildRanks ranks("connect_probe");
  for (int rank = 0; rank < 2; ++rank) {
    ranks.start({"--timeout-s", "1"},
                environment(rank, 2, 29500, "no-such-host.invalid"));
  }
  for (const ChildResult& rank : ranks.wait(20s)) {
    EXPECT_EQ(rank.code, 2);
    EXPECT_THAT(rank.output, HasSubstr("'no-such-host.invalid' is not known"));
  }
}

}  // namespace
}  // namespace dai::testing
