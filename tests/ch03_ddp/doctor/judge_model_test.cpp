// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/judge_model.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace dai::ddp {
namespace {

// Four ranks; weights checked before steps 0 .. 5, two parameters.
class JudgeModel : public ::testing::Test {
 protected:
  JudgeModel() : ranks_(4) {
    for (std::uint64_t rank = 0; rank < 4; ++rank) {
      ranks_[rank].parameters = {"up.weight", "out.weight"};
      for (std::int64_t step = 0; step < 6; ++step) {
        const auto leaf = static_cast<std::uint64_t>(100 * step);
        ranks_[rank].checks.push_back(
            {.step = step, .root = leaf, .leaves = {leaf, leaf + 1}});
        ranks_[rank].data.push_back(
            {step, {1000 * (rank + 1) + leaf, 1000 * (rank + 1) + leaf + 1}});
      }
    }
  }
  void change(int rank, std::int64_t from_step) {
    for (WeightsCheck& check : ranks_[rank].checks) {
      if (check.step < from_step) continue;
      check.root += 7;
      check.leaves[1] += 7;
    }
  }
  std::optional<Verdict> verdict() const {
    std::vector<const ModelFacts*> all;
    for (const ModelFacts& facts : ranks_) all.push_back(&facts);
    return judge_model(all);
  }
  std::vector<ModelFacts> ranks_;
};

TEST_F(JudgeModel, LeavesHealthyRanksAlone) {
  EXPECT_FALSE(verdict());
  for (ModelFacts& facts : ranks_) facts = {};
  EXPECT_FALSE(verdict());
}

TEST_F(JudgeModel, NamesStepRankAndParameterOfADrift) {
  change(2, 3);
  const auto found = verdict();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->kind, VerdictKind::kDrift);
  EXPECT_EQ(found->ranks, std::vector{2});
  EXPECT_EQ(found->to_string(),
            "parameter drift: before step 3, rank 2 has other weights in "
            "out.weight (1 of 2 parameters)\n  before step 2 they were equal");
}

TEST_F(JudgeModel, WaitsForTheLeaves) {
  change(2, 3);
  ranks_[1].checks[3].leaves.clear();
  EXPECT_FALSE(verdict());
}

TEST_F(JudgeModel, ComparesStepsThatAllHaveChecked) {
  change(2, 5);
  for (int rank = 0; rank < 2; ++rank) ranks_[rank].checks.pop_back();
  EXPECT_FALSE(verdict()) << "two have not come to step 5";
}

TEST_F(JudgeModel, ADriftFromTheFirstCheckOnIsAnInitialisation) {
  change(1, 0);
  EXPECT_EQ(verdict()->kind, VerdictKind::kInitialisation);
  EXPECT_EQ(verdict()->ranks, std::vector{1});
}

TEST_F(JudgeModel, SeesTwoRanksOnTheSameData) {
  ranks_[3].data[4].fingerprints[1] = ranks_[1].data[4].fingerprints[0];
  const auto found = verdict();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->to_string(),
            "overlapping data: ranks 1, 3 train on the same data in step 4");
}

TEST_F(JudgeModel, OneRankMayReadSomethingTwice) {
  ranks_[3].data[4].fingerprints = {5, 5};
  EXPECT_FALSE(verdict());
}

TEST_F(JudgeModel, TheFirstNanCounts) {
  ranks_[0].nan = {4, "later"};
  for (ModelFacts& facts : ranks_) facts.loss_seen = 3;
  EXPECT_FALSE(verdict()) << "who knows what the others will tell of step 4";
  ranks_[2].nan = {3, "aten::linear of up.weight"};
  const auto found = verdict();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->to_string(),
            "NaN: the loss of rank 2 is not finite in step 3: aten::linear of "
            "up.weight");
}

TEST_F(JudgeModel, FactsTravelAndLeavesOnlyWhenAskedFor) {
  ranks_[0].nan = {4, "x"};
  const auto all = model_facts_from_json(to_json(ranks_[0], 2));
  EXPECT_EQ(all.parameters, ranks_[0].parameters);
  EXPECT_EQ(all.check_of(2)->leaves, ranks_[0].check_of(2)->leaves);
  EXPECT_TRUE(all.check_of(3)->leaves.empty());
  EXPECT_EQ(all.check_of(3)->root, ranks_[0].check_of(3)->root);
  EXPECT_EQ(all.data[5].fingerprints, ranks_[0].data[5].fingerprints);
  EXPECT_EQ(all.nan->where, "x");
  EXPECT_TRUE(model_facts_from_json(to_json(ranks_[0], std::nullopt))
                  .parameters.empty());
}

}  // namespace
}  // namespace dai::ddp
