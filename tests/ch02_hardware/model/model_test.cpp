// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "ch02_hardware/model/communicator.h"
#include "ch02_hardware/transport/shm_transport.h"
#include "common/errors.h"

namespace dai::hardware {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(AlphaBeta, ComesBackFromExactSamples) {
  std::vector<CostSample> samples;
  for (const double bytes : {100.0, 1000.0, 10000.0}) {
    const AlgorithmCost cost{4, 1.5};
    samples.push_back({cost, bytes, 4 * 2e-6 + 1.5 * bytes * 3e-10});
  }
  const AlphaBeta line = fit_alpha_beta(samples);
  EXPECT_NEAR(line.alpha_s, 2e-6, 1e-12);
  EXPECT_NEAR(line.beta_s_per_byte, 3e-10, 1e-16);
}

TEST(AlphaBeta, NeitherNumberIsNegative) {
  const AlgorithmCost one{1, 1};
  const CostSample falling[] = {{one, 1000, 2e-6}, {one, 2000, 1e-6}};
  const AlphaBeta flat = fit_alpha_beta(falling);
  EXPECT_GT(flat.alpha_s, 0);
  EXPECT_EQ(flat.beta_s_per_byte, 0);
  const CostSample steep[] = {{one, 1000, 1e-6}, {one, 2000, 9e-6}};
  EXPECT_EQ(fit_alpha_beta(steep).alpha_s, 0);
  EXPECT_THROW(fit_alpha_beta({}), std::invalid_argument);
}

TEST(CollectiveModel, SurvivesItsFile) {
  CollectiveModel model;
  model.algorithms.push_back({Collective::kAllReduce, "ring", "tcp", {}});
  model.algorithms[0].lines[2] = {1.5e-6, 2.5e-10};
  const CollectiveModel read =
      CollectiveModel::from_json(model.to_json(), "'m.json'");
  const AlgorithmModel* const ring =
      read.find(Collective::kAllReduce, "ring", "tcp");
  ASSERT_TRUE(ring);
  EXPECT_NEAR(ring->lines[2].alpha_s, 1.5e-6, 1e-15);
  EXPECT_NEAR(ring->lines[2].beta_s_per_byte, 2.5e-10, 1e-19);
  EXPECT_FALSE(read.find(Collective::kAllReduce, "ring", "shm"));
  EXPECT_FALSE(CollectiveModel::built_in().algorithms.empty());
}

TEST(CollectiveModel, AForeignFileIsRefusedInOneLine) {
  const char* const bad[] = {
      "",
      "[]",
      "{\"schema\": 2, \"algorithms\": []}",
      "{\"schema\": 1, \"algorithms\": {}}",
      "{\"schema\": 1, \"algorithms\": [{\"collective\":\"all_reduce\","
      "\"algorithm\":\"magic\",\"medium\":\"tcp\",\"alpha_ns\":[1,1,1,1],"
      "\"beta_ps_per_byte\":[1,1,1,1]}]}",
      "{\"schema\": 1, \"algorithms\": [{\"collective\":\"all_reduce\","
      "\"algorithm\":\"ring\",\"medium\":\"tcp\",\"alpha_ns\":[1,-1,1,1],"
      "\"beta_ps_per_byte\":[1,1,1,1]}]}",
      "{\"schema\": 1, \"algorithms\": [{\"collective\":\"all_reduce\","
      "\"algorithm\":\"ring\",\"medium\":\"tcp\",\"alpha_ns\":[1],"
      "\"beta_ps_per_byte\":[1,1,1,1]}]}"};
  for (const char* text : bad) {
    EXPECT_THAT([&] { CollectiveModel::from_json(text, "'m.json'"); },
                ThrowsMessage<UsageError>(HasSubstr("'m.json'")))
        << text;
  }
}

CollectiveModel two_algorithms(double small_ring, double large_ring) {
  CollectiveModel model;
  for (const char* name : {"ring", "recursive_doubling"}) {
    AlgorithmModel one{Collective::kAllReduce, name, "shm", {}};
    for (auto& line : one.lines) line = {1e-6, 1e-9};
    model.algorithms.push_back(one);
  }
  model.algorithms[0].lines[0] = {small_ring, 1e-9};
  model.algorithms[0].lines[3] = {1e-6, large_ring};
  return model;
}

TEST(Selector, TakesWhatTheModelSaysIsFastest) {
  auto ranks = thread_transports(2);
  const CollectiveModel model = two_algorithms(1, 1e-12);
  const Selector selector(model, *ranks[0]);
  const auto name = [&](std::size_t bytes) {
    return std::string(selector.choose(Collective::kAllReduce, bytes).name);
  };
  EXPECT_EQ(name(0), "recursive_doubling");
  EXPECT_EQ(name(100), "recursive_doubling");
  EXPECT_EQ(name(std::size_t{64} << 20), "ring");
  EXPECT_EQ(name(std::size_t{1} << 40), "ring");
}

// A model may know algorithms that do not run here.
TEST(Selector, TakesOnlyWhatRuns) {
  ShmOptions options;
  options.cross_memory_attach = false;
  auto ranks = thread_transports(2, options);
  const Selector selector(CollectiveModel::built_in(), *ranks[0]);
  for (int power = 0; power < 40; ++power) {
    const std::size_t bytes = (std::size_t{2} << power) - 1;
    const Algorithm& chosen = selector.choose(Collective::kAllReduce, bytes);
    EXPECT_TRUE(chosen.runs_on(bytes, *ranks[0]))
        << chosen.name << " " << bytes;
    EXPECT_FALSE(chosen.naive);
  }
}

TEST(Communicator, InsistsOnWhatItIsTold) {
  auto ranks = thread_transports(1);
  Communicator group(std::move(ranks[0]), CollectiveModel::built_in());
  EXPECT_NO_THROW(group.insist("all_reduce=ring,broadcast=pipelined"));
  EXPECT_NO_THROW(group.insist(""));
  EXPECT_THAT([&] { group.insist("all_reduce=magic"); },
              ThrowsMessage<UsageError>(HasSubstr("there are naive")));
  EXPECT_THROW(group.insist("sum=ring"), UsageError);
  EXPECT_THROW(group.insist("all_reduce"), UsageError);
}

}  // namespace
}  // namespace dai::hardware
