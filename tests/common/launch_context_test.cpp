// SPDX-License-Identifier: Apache-2.0
#include "common/launch_context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "common/errors.h"

namespace dai {
namespace {

using Recorded = std::map<std::string, std::string>;

LaunchContext read(const Recorded& recorded) {
  return launch_context_from_environment([&](const char* name) {
    const auto found = recorded.find(name);
    return found == recorded.end() ? nullptr : found->second.c_str();
  });
}

std::string refusal(const Recorded& recorded) {
  try {
    read(recorded);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "accepted";
}

// What `torchrun --nnodes 2 --nproc-per-node 2` sets for the last rank.
Recorded torchrun() {
  return {{"RANK", "3"},
          {"WORLD_SIZE", "4"},
          {"LOCAL_RANK", "1"},
          {"LOCAL_WORLD_SIZE", "2"},
          {"GROUP_RANK", "1"},
          {"GROUP_WORLD_SIZE", "2"},
          {"MASTER_ADDR", "node-a"},
          {"MASTER_PORT", "29500"},
          {"TORCHELASTIC_RUN_ID", "none"},
          {"TORCHELASTIC_RESTART_COUNT", "1"},
          {"TORCHELASTIC_USE_AGENT_STORE", "True"}};
}

// Open MPI 4.1 on one node; 5.0 sets the same names beside PMIX_*.
Recorded open_mpi() {
  return {{"OMPI_COMM_WORLD_RANK", "1"},
          {"OMPI_COMM_WORLD_SIZE", "2"},
          {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
          {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
          {"PMIX_RANK", "1"}};
}

Recorded slurm() {
  return {{"SLURM_PROCID", "1"},        {"SLURM_NTASKS", "2"},
          {"SLURM_LOCALID", "1"},       {"SLURM_NODEID", "0"},
          {"SLURM_NNODES", "1"},        {"SLURM_JOB_ID", "42"},
          {"SLURM_STEP_ID", "0"},       {"SLURM_STEP_NUM_TASKS", "2"},
          {"SLURM_STEP_NUM_NODES", "1"}};
}

Recorded with(Recorded base, const Recorded& more) {
  for (const auto& [name, value] : more) base[name] = value;
  return base;
}

Recorded without(Recorded base, const std::string& name) {
  base.erase(name);
  return base;
}

TEST(LaunchContext, NoLauncherIsOneRankOfOne) {
  const LaunchContext launch = read({});
  EXPECT_EQ(launch.launcher, Launcher::kNone);
  EXPECT_EQ(launch.rank, 0);
  EXPECT_EQ(launch.world_size, 1);
  EXPECT_TRUE(launch.meeting_file.empty());
  EXPECT_FALSE(launch.host.empty());
}

TEST(LaunchContext, ReadsTorchrun) {
  const LaunchContext launch = read(torchrun());
  EXPECT_EQ(launch.launcher, Launcher::kTorchrun);
  EXPECT_EQ(launch.rank, 3);
  EXPECT_EQ(launch.world_size, 4);
  EXPECT_EQ(launch.local_rank, 1);
  EXPECT_EQ(launch.local_world_size, 2);
  EXPECT_EQ(launch.node_rank, 1);
  EXPECT_EQ(launch.node_count, 2);
  EXPECT_EQ(launch.restart_count, 1);
  EXPECT_EQ(launch.master_addr, "node-a");
  EXPECT_EQ(launch.master_port, 29500);
  EXPECT_TRUE(launch.agent_store);
  EXPECT_FALSE(launch.master_listen_fd.has_value());
}

TEST(LaunchContext, OnlyRankZeroTakesTheListeningSocket) {
  const Recorded socket = {{"DAI_MASTER_LISTEN_FD", "7"}};
  EXPECT_FALSE(read(with(torchrun(), socket)).master_listen_fd.has_value());
  const auto zero = read(
      with(with(torchrun(), socket), {{"RANK", "0"}, {"LOCAL_RANK", "0"}}));
  EXPECT_EQ(zero.master_listen_fd, 7);
}

TEST(LaunchContext, ReadsOpenMpiAndMeetsThroughAFile) {
  const LaunchContext launch = read(open_mpi());
  EXPECT_EQ(launch.launcher, Launcher::kOpenMpi);
  EXPECT_EQ(launch.rank, 1);
  EXPECT_EQ(launch.world_size, 2);
  EXPECT_THAT(launch.meeting_file, testing::HasSubstr("mpi-"));
  // The same job names the same file in every rank; only the parent matters.
  EXPECT_EQ(launch.meeting_file, read(open_mpi()).meeting_file);
}

TEST(LaunchContext, ReadsSlurmButOnlyInsideAStep) {
  const LaunchContext launch = read(slurm());
  EXPECT_EQ(launch.launcher, Launcher::kSlurm);
  EXPECT_EQ(launch.rank, 1);
  EXPECT_EQ(launch.local_world_size, 2);
  EXPECT_THAT(launch.meeting_file, testing::HasSubstr("slurm-42.0.0"));
  // A batch script outside srun sees SLURM_PROCID=0 and the job's NTASKS.
  EXPECT_EQ(read(without(slurm(), "SLURM_STEP_ID")).launcher, Launcher::kNone);
  EXPECT_EQ(read(with(slurm(), {{"SLURM_STEP_ID", "4294967291"}})).launcher,
            Launcher::kNone);
}

TEST(LaunchContext, SlurmsFirstNodeIsTheMeetingPointOfSeveral) {
  const auto two_nodes = [](const char* list) {
    return with(slurm(), {{"SLURM_STEP_NUM_NODES", "2"},
                          {"SLURM_LOCALID", "0"},
                          {"SLURM_NODEID", "1"},
                          {"SLURM_STEP_NODELIST", list}});
  };
  for (const auto& [list, first] : {std::pair{"n[1-2]", "n1"},
                                    {"gpu[07-09,12]-a,x", "gpu07-a"},
                                    {"a,b[1-2]", "a"},
                                    {"rack[1-2]node[3,5]", "rack1node3"}}) {
    const LaunchContext launch = read(two_nodes(list));
    EXPECT_EQ(launch.master_addr, first);
    EXPECT_GE(launch.master_port, 20000);
    EXPECT_LT(launch.master_port, 30000);
    EXPECT_EQ(launch.meeting_file, "");
  }
  const LaunchContext step = read(two_nodes("n[1-2]"));
  const LaunchContext next =
      read(with(two_nodes("n[1-2]"), {{"SLURM_STEP_ID", "1"}}));
  EXPECT_NE(step.master_port, next.master_port);
  const LaunchContext told =
      read(with(two_nodes("n[1-2]"),
                {{"MASTER_ADDR", "head"}, {"MASTER_PORT", "29500"}}));
  EXPECT_EQ(told.master_addr, "head");
  EXPECT_EQ(told.master_port, 29500);
}

TEST(LaunchContext, TorchrunWinsInsideSlurm) {
  const LaunchContext launch = read(with(slurm(), torchrun()));
  EXPECT_EQ(launch.launcher, Launcher::kTorchrun);
  EXPECT_EQ(launch.rank, 3);
}

TEST(LaunchContext, MasterAddressBeatsTheMeetingFile) {
  const LaunchContext launch = read(with(
      open_mpi(), {{"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", "4000"}}));
  EXPECT_EQ(launch.master_port, 4000);
  EXPECT_TRUE(launch.meeting_file.empty());
}

TEST(LaunchContext, NamesWhatContradicts) {
  using testing::AllOf;
  using testing::HasSubstr;
  EXPECT_THAT(refusal({{"RANK", "0"}}),
              AllOf(HasSubstr("RANK"), HasSubstr("WORLD_SIZE is not")));
  EXPECT_THAT(refusal({{"WORLD_SIZE", "2"}}), HasSubstr("RANK is not"));
  EXPECT_THAT(refusal(with(torchrun(), {{"RANK", "4"}})),
              HasSubstr("rank 4 of 4"));
  EXPECT_THAT(refusal(with(torchrun(), {{"RANK", "two"}})),
              HasSubstr("RANK='two'"));
  EXPECT_THAT(refusal(with(torchrun(), {{"RANK", "-1"}})),
              HasSubstr("RANK='-1'"));
  EXPECT_THAT(refusal(with(torchrun(), {{"LOCAL_RANK", "2"}})),
              HasSubstr("local rank 2 of 2"));
  EXPECT_THAT(refusal(without(torchrun(), "MASTER_ADDR")),
              HasSubstr("MASTER_ADDR is not"));
  EXPECT_THAT(refusal(without(torchrun(), "MASTER_PORT")),
              HasSubstr("MASTER_PORT is not"));
  EXPECT_THAT(refusal(with(torchrun(), {{"MASTER_PORT", "70000"}})),
              HasSubstr("70000"));
  EXPECT_THAT(refusal(without(open_mpi(), "OMPI_COMM_WORLD_SIZE")),
              HasSubstr("OMPI_COMM_WORLD_SIZE is not"));
  EXPECT_THAT(refusal(with(open_mpi(), {{"PMIX_RANK", "0"}})),
              HasSubstr("PMIX_RANK=0"));
  EXPECT_THAT(refusal(with(open_mpi(), {{"RANK", "0"},
                                        {"WORLD_SIZE", "2"},
                                        {"MASTER_ADDR", "a"},
                                        {"MASTER_PORT", "1"}})),
              HasSubstr("RANK=0 contradicts OMPI_COMM_WORLD_RANK=1"));
  EXPECT_THAT(refusal(with(open_mpi(), {{"OMPI_COMM_WORLD_SIZE", "4"}})),
              HasSubstr("several nodes"));
  EXPECT_THAT(refusal(with(slurm(), {{"SLURM_STEP_NUM_NODES", "0"}})),
              HasSubstr("SLURM_NNODES"));
}

}  // namespace
}  // namespace dai
