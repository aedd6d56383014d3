// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/explorer/schedule.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>

#include "ch02_hardware/model/algorithm_cost.h"
#include "common/errors.h"

namespace dai::hardware {
namespace {

using ::testing::HasSubstr;

// What the algorithms really send is what cost_of() says on paper: steps, and
// the most that one rank sends, at every number of ranks.
TEST(Schedule, StepsAndBytesAreThePapers) {
  for (const Algorithm& algorithm : algorithms()) {
    if (algorithm.needs != Needs::kNothing ||
        algorithm.collective == Collective::kBarrier ||
        std::strcmp(algorithm.name, "hierarchical") == 0) {
      continue;
    }
    for (int ranks = 1; ranks <= 9; ++ranks) {
      SCOPED_TRACE(std::string(to_string(algorithm.collective)) + " " +
                   algorithm.name + ", " + std::to_string(ranks) + " ranks");
      constexpr std::int64_t kCount = 2520;  // divides by 1 to 9
      const Schedule schedule = record_schedule(algorithm, ranks, kCount);
      EXPECT_EQ(schedule.wrong_elements, 0u);
      const AlgorithmCost cost =
          cost_of(algorithm.collective, algorithm.name, ranks);
      EXPECT_EQ(schedule.steps, cost.steps);
      const double most = static_cast<double>(*std::max_element(
          schedule.sent_elements.begin(), schedule.sent_elements.end()));
      EXPECT_LE(most, cost.volume * size_bytes(algorithm.collective, kCount, 1,
                                               ranks) +
                          1e-6);
    }
  }
}

TEST(Schedule, ARingSendsItsPartsAround) {
  const Schedule ring =
      record_schedule(algorithm_by_name(Collective::kAllReduce, "ring"), 3, 3);
  EXPECT_EQ(ring.steps, 4);
  ASSERT_EQ(ring.messages.size(), 12u);
  EXPECT_EQ(ring.messages[0].from, 0);
  EXPECT_EQ(ring.messages[0].to, 1);
  EXPECT_EQ(ring.messages[0].first, 2);
  EXPECT_TRUE(ring.messages[0].combined);
  EXPECT_FALSE(ring.messages[11].combined);
  EXPECT_THAT(ring.sent_elements, ::testing::Each(4));
  EXPECT_THAT(schedule_text(ring),
              HasSubstr("step 1\n  0 -> 1   element 2, added\n"));
}

TEST(Schedule, ThePictureHasAnArrowForEachMessage) {
  const Schedule tree = record_schedule(
      algorithm_by_name(Collective::kBroadcast, "binomial_tree"), 8, 8);
  const std::string svg = schedule_svg(tree);
  std::size_t arrows = 0;
  for (std::size_t at = svg.find("marker-end"); at != std::string::npos;
       at = svg.find("marker-end", at + 1)) {
    ++arrows;
  }
  EXPECT_EQ(arrows, 7u);
  EXPECT_THAT(svg, HasSubstr("step 3"));
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
}

TEST(Schedule, WhatSendsNoMessagesCannotBeDrawn) {
  EXPECT_THROW(record_schedule(
                   algorithm_by_name(Collective::kAllReduce, "two_shot"), 2, 2),
               UsageError);
}

}  // namespace
}  // namespace dai::hardware
