// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/network/link_judge.h"

#include <gmock/gmock.h>

namespace dai::hardware {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Matrix = std::vector<std::vector<double>>;

Matrix all_at(std::size_t ranks, double speed) {
  return Matrix(ranks, std::vector<double>(ranks, speed));
}

TEST(LinkJudge, NamesTheNodeWhoseLinkIsSlow) {
  Matrix speed = all_at(3, 1e9);
  for (int other : {0, 1}) speed[2][other] = speed[other][2] = 1e8;
  const LinkVerdict verdict = judge_links(speed, {0, 1, 2}, {"a", "b", "c"});
  EXPECT_THAT(verdict.slow_nodes, ElementsAre(2));
  EXPECT_THAT(verdict.slow_pairs, IsEmpty());
  EXPECT_NEAR(verdict.worst_ratio, 0.1, 1e-9);
  EXPECT_THAT(verdict.says, HasSubstr("the link of c is slow: 0.100 GB/s "
                                      "at best, 0.10 of"));
}

// Slow in one direction is slow.
TEST(LinkJudge, NamesTheWayBetweenTwoThatAreFastOtherwise) {
  Matrix speed = all_at(4, 1e9);
  speed[1][3] = 2e8;
  const LinkVerdict verdict =
      judge_links(speed, {0, 1, 2, 3}, {"a", "b", "c", "d"});
  EXPECT_THAT(verdict.slow_nodes, IsEmpty());
  EXPECT_THAT(verdict.slow_pairs, ElementsAre(std::pair{1, 3}));
  EXPECT_THAT(verdict.says, HasSubstr("between ranks 1 and 3"));
}

// Memory is faster than a network: that is no fault of the network.
TEST(LinkJudge, ComparesPairsOfAKind) {
  Matrix speed = all_at(4, 1e9);
  speed[0][1] = speed[1][0] = speed[2][3] = speed[3][2] = 2e10;
  const LinkVerdict verdict = judge_links(speed, {0, 0, 1, 1}, {"a", "b"});
  EXPECT_THAT(verdict.slow_nodes, IsEmpty());
  EXPECT_THAT(verdict.slow_pairs, IsEmpty());
  EXPECT_THAT(verdict.says, HasSubstr("no link stands out"));
}

TEST(LinkJudge, SaysWhenThereIsNothingToCompareWith) {
  EXPECT_THAT(judge_links(all_at(2, 1e9), {0, 1}, {"a", "b"}).says,
              HasSubstr("nothing to compare with"));
}

// Two nodes of two ranks each on one core: what is measured within a node is
// the scheduler, what is measured across them is judged as ever.
TEST(LinkJudge, RanksThatTakeTurnsAreNotJudged) {
  auto speed = all_at(4, 1e9);
  speed[0][1] = speed[1][0] = 1e7;
  const LinkVerdict verdict =
      judge_links(speed, {0, 0, 1, 1}, {"a", "b"}, false);
  EXPECT_TRUE(verdict.slow_pairs.empty());
  EXPECT_THAT(verdict.says, HasSubstr("no link stands out"));
  EXPECT_THAT(verdict.says, HasSubstr("are not judged"));
  EXPECT_THAT(judge_links(speed, {0, 0, 0, 0}, {"a"}, false).says,
              Not(HasSubstr("no link")));
}

}  // namespace
}  // namespace dai::hardware
