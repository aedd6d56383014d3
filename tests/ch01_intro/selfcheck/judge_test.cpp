// SPDX-License-Identifier: Apache-2.0
// Faults that a test machine cannot have: shown to the verdicts as facts.
#include "ch01_intro/selfcheck/judge.h"

#include <gmock/gmock.h>

#include <numeric>

#include "ch01_intro/selfcheck/selfcheck_report.h"
#include "ch01_intro/selfcheck/verdicts.h"

namespace dai::intro {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

std::vector<int> first_cpus(int count) {
  std::vector<int> cpus(count);
  std::iota(cpus.begin(), cpus.end(), 0);
  return cpus;
}

// `size` ranks, two on each of the hosts node-0, node-1, ..., all well.
std::vector<RankReport> cluster(int size) {
  std::vector<RankReport> ranks(size);
  for (int r = 0; r < size; ++r) {
    RankReport& rank = ranks[r];
    rank.arrived = rank.reported = rank.grouped = true;
    RankFacts& facts = rank.facts;
    HostFacts& machine = facts.machine;
    machine.host = "node-" + std::to_string(r / 2);
    machine.boot_id = "boot " + std::to_string(r / 2);
    machine.versions = {{"binary", "aa"}, {"kernel", "6.1"}};
    machine.cpus = first_cpus(64);
    machine.online_cores = 64;
    machine.numa_nodes = 2;
    machine.cpu_numa_nodes = {0, 1};
    machine.memory_bytes = machine.memory_available_bytes = 256LL << 30;
    machine.shm_bytes = 1LL << 30;
    machine.open_files = 65536;
    facts.address = "10.0.0." + std::to_string(r / 2);
    machine.links = {{"eth0", facts.address, true, false, 9000, 100000}};
    for (int gpu = 0; gpu < 2; ++gpu) {
      machine.gpus.push_back(
          {"0000:0" + std::to_string(gpu) + ":00.0", "GPU", gpu, 0, 13000, 1});
    }
    facts.own_name_addresses = {facts.address};
    facts.local_rank = r % 2;
    facts.local_world_size = 2;
    facts.world_size = size;
    facts.port = 4000 + r;
    facts.device = "cuda:" + std::to_string(r % 2);
    facts.device_index = r % 2;
    for (int peer = 0; peer < size; ++peer) {
      if (peer != r) rank.pings.push_back({peer, "", 50, 1000, 0, 10});
    }
    rank.group.collective_errors = {{"all_reduce sum", 0}};
    rank.group.bits = {{"exp", "11"}};
  }
  return ranks;
}

std::vector<Finding> found(const std::vector<RankReport>& ranks,
                           const SelfcheckLimits& limits = {}) {
  return judge(ranks, limits);
}

TEST(Judge, FindsNothingWhereNothingIsWrong) {
  EXPECT_THAT(found(cluster(6)), IsEmpty());
}

TEST(Judge, NamesTheMinorityWithBothValuesAndMergesTheRanksOfAHost) {
  auto ranks = cluster(6);
  ranks[2].facts.machine.versions["binary"] = "bb";
  ranks[3].facts.machine.versions["binary"] = "bb";
  const auto findings = found(ranks);
  ASSERT_THAT(findings, SizeIs(1));
  EXPECT_THAT(findings[0].line(),
              HasSubstr("FAILED versions: host node-1, ranks 2, 3: binary bb; "
                        "expected: binary aa as on 4 of 6 ranks; do: "));
}

TEST(Judge, MajorityOfATieIsTheLowestRanks) {
  EXPECT_EQ(majority_of({"", "b", "a", "a", "b"}).value, "b");
  EXPECT_EQ(majority_of({"", "b", "a", "a", "b"}).known, 4);
}

TEST(Judge, NamesTwoRanksOnOneGpuEvenUnderDifferentHostNames) {
  auto ranks = cluster(4);
  ranks[1].facts.device_index = 0;
  ranks[1].facts.machine.host = "container-b";  // the same boot id
  const auto findings = found(ranks);
  ASSERT_THAT(findings, SizeIs(2));
  EXPECT_THAT(findings[1].line(),
              AllOf(HasSubstr("host container-b, rank 1"),
                    HasSubstr("0000:00:00.0"), HasSubstr("ranks 0, 1")));
}

TEST(Judge, NamesMissingAndProhibitedDevices) {
  auto ranks = cluster(4);
  ranks[1].facts.device.clear();
  ranks[1].facts.device_index = -1;
  ranks[1].facts.device_error = "needs 2 CUDA devices, found 1";
  ranks[2].facts.machine.gpus[0].compute_mode = 2;
  const auto findings = found(ranks);
  ASSERT_THAT(findings, SizeIs(2));
  EXPECT_THAT(findings[0].line(), HasSubstr("needs 2 CUDA devices, found 1"));
  EXPECT_THAT(findings[1].line(), HasSubstr("compute mode prohibited"));
}

TEST(Judge, NamesAQuotaBelowTheThreads) {
  auto ranks = cluster(2);
  ranks[1].facts.threads = 8;
  ranks[1].facts.machine.cpu_quota = 1.5;
  const auto findings = found(ranks);
  ASSERT_THAT(findings, SizeIs(1));
  EXPECT_THAT(findings[0].line(),
              HasSubstr("8 threads under a cgroup quota of 1.5 cores; "
                        "expected: at most 2 threads"));
}

// What a rank cannot see: the others want the same cores.
TEST(Judge, WarnsOfRanksThatShareTooFewCores) {
  auto ranks = cluster(4);
  for (RankReport& rank : ranks) rank.facts.machine.cpu_numa_nodes = {0};
  for (int r : {0, 1}) {  // one cpuset of four cores, four threads each
    ranks[r].facts.machine.cpus = first_cpus(4);
    ranks[r].facts.machine.gpus.clear();
    ranks[r].facts.threads = 4;
  }
  ranks[2].facts.machine.cpus = {0, 1};  // two cores each, not the same ones
  ranks[3].facts.machine.cpus = {2, 3};
  for (int r : {2, 3}) {
    ranks[r].facts.machine.gpus.clear();
    ranks[r].facts.threads = 2;
  }
  std::vector<std::string> lines;
  for (const Finding& f : found(ranks)) lines.push_back(f.line());
  EXPECT_THAT(lines, Contains(HasSubstr("2 ranks with 8 threads on 4 cores")));
  EXPECT_THAT(lines, Each(Not(HasSubstr("node-1"))));

  ranks = cluster(2);
  for (RankReport& rank : ranks) {
    rank.facts.threads = 2;
    rank.facts.machine.cpu_quota = 2;
  }
  const auto findings = found(ranks);
  ASSERT_FALSE(findings.empty());
  EXPECT_TRUE(findings[0].warning);
  EXPECT_THAT(findings[0].line(),
              HasSubstr("2 ranks with 4 threads on 2 cores"));
  // Each in a container of its own, each has two cores' worth of time.
  ranks[1].facts.machine.pid_space = "another";
  EXPECT_THAT(found(ranks), IsEmpty());
}

TEST(Judge, NamesARankPinnedAwayFromItsGpu) {
  auto ranks = cluster(2);
  ranks[1].facts.machine.cpus = first_cpus(32);
  ranks[1].facts.machine.cpu_numa_nodes = {0};
  const auto findings = found(ranks);
  ASSERT_THAT(findings, SizeIs(1));
  EXPECT_THAT(findings[0].line(),
              HasSubstr("FAILED numa: host node-0, rank 1"));
}

TEST(Judge, WarnsOfARankPinnedAcrossNodesAndStrictFailsIt) {
  auto ranks = cluster(2);
  ranks[1].facts.machine.cpus = first_cpus(32);
  ASSERT_THAT(found(ranks), SizeIs(1));
  EXPECT_TRUE(found(ranks)[0].warning);
  SelfcheckLimits strict;
  strict.strict = true;
  EXPECT_FALSE(found(ranks, strict)[0].warning);
}

TEST(Judge, NamesLinksThatAreDownSlowOrOfAnotherMtu) {
  auto ranks = cluster(6);
  ranks[0].facts.machine.links[0].running = false;
  ranks[2].facts.machine.links[0].mtu = 1500;
  ranks[5].facts.machine.links[0].speed_mbit = 1000;
  const auto findings = found(ranks);
  ASSERT_THAT(findings, SizeIs(3));
  EXPECT_THAT(findings[0].line(),
              HasSubstr("host node-0, rank 0: eth0 is down"));
  EXPECT_THAT(findings[1].line(), HasSubstr("host node-1, rank 2: MTU 1500"));
  EXPECT_THAT(findings[2].line(), HasSubstr("host node-2, rank 5: speed"));
}

TEST(Judge, BlamesARankThatNobodyReachesAndNotThoseWhoTried) {
  auto ranks = cluster(4);
  for (RankReport& rank : ranks) {
    for (PeerPing& ping : rank.pings) {
      if (ping.rank == 3) ping.error = "timed out";
    }
  }
  const auto findings = found(ranks);
  ASSERT_THAT(findings, SizeIs(1));
  EXPECT_THAT(findings[0].line(),
              HasSubstr("FAILED ping: host node-1, rank 3: none of the 3"));
}

TEST(Judge, AWrongClockOfRankZeroIsRankZeros) {
  auto ranks = cluster(4);
  for (int r = 1; r < 4; ++r) ranks[r].pings[0].clock_offset_us = 5e6;
  const auto findings = found(ranks);
  ASSERT_THAT(findings, SizeIs(1));
  EXPECT_THAT(findings[0].line(),
              HasSubstr("FAILED clock: host node-0, rank 0: 5 s ahead of the "
                        "median"));
}

TEST(Judge, ClockSkewWithinItsMeasurementsErrorIsNoFault) {
  auto ranks = cluster(2);
  ranks[1].pings[0].clock_offset_us = 150e3;
  ranks[1].pings[0].clock_error_us = 60e3;
  EXPECT_THAT(found(ranks), IsEmpty());
}

TEST(Judge, MissingRankIsPlacedOnItsNeighboursHost) {
  auto ranks = cluster(6);
  ranks[3] = ranks[4] = ranks[5] = {};
  EXPECT_EQ(host_of(ranks, 3), "node-1");
  EXPECT_EQ(host_of(ranks, 5), "unknown (node 2)");
}

TEST(Judge, LossOfMemoryOrGpusIsSeenAgainstTheOthers) {
  auto ranks = cluster(6);
  ranks[2].facts.machine.memory_bytes = 192LL << 30;
  ranks[5].facts.machine.gpus.pop_back();
  ranks[5].facts.device_index = -1;
  const auto findings = found(ranks);
  ASSERT_THAT(findings, SizeIs(2));
  EXPECT_THAT(findings[0].line(), HasSubstr("196608 MiB of memory"));
  EXPECT_THAT(findings[1].line(), HasSubstr("1 GPUs"));
}

TEST(Judge, ReportsSurviveTheWire) {
  const auto ranks = cluster(2);
  const nlohmann::json facts = ranks[1].facts, group = ranks[1].group;
  EXPECT_EQ(nlohmann::json(facts.get<RankFacts>()), facts);
  EXPECT_EQ(nlohmann::json(group.get<GroupReport>()), group);
}

TEST(Report, MatrixCountsWhatFailedAndWhatDidNotRun) {
  SelfcheckResult result;
  result.ranks = cluster(4);
  result.ranks[3] = {};
  result.findings = judge(result.ranks, {});
  EXPECT_EQ(result.failed("arrive"), 1);
  EXPECT_EQ(result.failed("ping"), 0);
  EXPECT_EQ(result.cells_not_run(), 10);
  EXPECT_THAT(selfcheck_matrix(result.ranks, result.findings),
              HasSubstr("FAILED"));
}

}  // namespace
}  // namespace dai::intro
