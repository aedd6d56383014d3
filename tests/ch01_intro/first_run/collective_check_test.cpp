// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/first_run/collective_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/support/distributed_test.h"

namespace dai::intro {
namespace {

TEST(CollectiveCheck, EveryCollectiveIsExact) {
  // Odd on purpose: 4096 hides what an off-by-one in the blocks would do.
  const auto rows = check_collectives(testing::group(), 1001);
  std::vector<std::string> names;
  for (const auto& row : rows) {
    EXPECT_EQ(row.max_error, 0) << row.name;
    names.push_back(row.name);
  }
  const bool ring = testing::group().size() > 1;
  EXPECT_EQ(names.size(), ring ? 10u : 9u);
  EXPECT_THAT(names, ::testing::IsSupersetOf(
                         {"all_reduce sum", "all_reduce max",
                          "broadcast from each rank", "all_gather",
                          "reduce_scatter sum", "all_to_all", "barrier",
                          "mean by naive_ddp", "mean by naive_canonical_sum"}));
  EXPECT_EQ(worst_error(rows), 0);
}

TEST(CollectiveCheck, CanBeRepeated) {
  EXPECT_EQ(worst_error(check_collectives(testing::group(), 3)), 0);
  EXPECT_EQ(worst_error(check_collectives(testing::group(), 1)), 0);
}

TEST(CollectiveCheck, TheWorstRowCounts) {
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(worst_error({{"a", 1, 0}, {"b", 1, infinity}, {"c", 1, 2}}),
            infinity);
  EXPECT_THAT(collective_table({{"all_reduce sum", 16, 0.5}}),
              ::testing::ContainsRegex("all_reduce sum +16 +0\\.5"));
}

}  // namespace
}  // namespace dai::intro
