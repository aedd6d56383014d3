// SPDX-License-Identifier: Apache-2.0

// Every algorithm on every medium against the plain reference, and a seeded
// fuzz over all that can vary: `collectives_fuzz --cases N --seed S`.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <random>

#include "tests/ch02_hardware/support/collective_case.h"
#include "tests/ch02_hardware/support/rank_runner.h"

namespace dai::hardware::testing {
namespace {

using ::testing::Each;
using ::testing::IsEmpty;

struct OnMedium : ::testing::TestWithParam<Medium> {};

// World sizes 1 to 9: powers of two, odd, prime, one below and above.
TEST_P(OnMedium, EveryAlgorithmEqualsTheReference) {
  for (int ranks = 1; ranks <= 9; ++ranks) {
    const auto said =
        on_ranks({.medium = GetParam(), .ranks = ranks}, [&](Transport& t) {
          for (const Algorithm& algorithm : algorithms()) {
            if (algorithm.collective == Collective::kBarrier) {
              algorithm.run({}, t);
              continue;
            }
            for (const std::size_t count : {0u, 1u, 1000u, 4099u}) {
              CollectiveCase one{
                  {.what = algorithm.collective, .count = count}};
              one.root = ranks - 1;
              if (!algorithm.runs_on(one.bytes(), t)) continue;
              run_and_check(one, algorithm, t);
              one.in_place = one.what != Collective::kAllToAll;
              run_and_check(one, algorithm, t);
            }
          }
        });
    EXPECT_THAT(said, Each(IsEmpty())) << ranks << " ranks";
  }
}

CollectiveCase any_case(std::mt19937_64& random, Collective what, int ranks) {
  const auto below = [&](std::uint64_t n) { return random() % n; };
  CollectiveCase one;
  one.what = what;
  constexpr std::size_t kEnds[] = {1, 2, 17, 300, 5000, 100000};
  one.count = below(kEnds[below(6)] + 1);
  one.dtype = kAllDTypes[below(std::size(kAllDTypes))];
  do {
    one.op = kAllReduceOps[below(std::size(kAllReduceOps))];
  } while (one.dtype == DType::kBool && one.op == ReduceOp::kAvg);
  one.root = static_cast<int>(below(ranks));
  one.in_place = what != Collective::kAllToAll && below(2);
  one.seed = random();
  return one;
}

// All ranks draw the same cases from the same seed.
TEST_P(OnMedium, FuzzedCasesEqualTheReference) {
  std::mt19937_64 random(1234);
  for (int round = 0; round < 12; ++round) {
    const int ranks = 1 + static_cast<int>(random() % 9);
    const std::uint64_t seed = random();
    const auto said =
        on_ranks({.medium = GetParam(), .ranks = ranks}, [&](Transport& t) {
          std::mt19937_64 draw(seed);
          for (int i = 0; i < 40; ++i) {
            const auto all = algorithms();
            const Algorithm& algorithm = all[draw() % all.size()];
            const CollectiveCase one =
                any_case(draw, algorithm.collective, ranks);
            if (one.what == Collective::kBarrier) {
              algorithm.run({}, t);
            } else if (algorithm.runs_on(one.bytes(), t)) {
              run_and_check(one, algorithm, t);
            }
          }
        });
    EXPECT_THAT(said, Each(IsEmpty())) << ranks << " ranks, seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Media, OnMedium, ::testing::ValuesIn(kAllMedia),
                         [](const auto& info) {
                           return std::string(1, 'a' + info.index);
                         });

}  // namespace
}  // namespace dai::hardware::testing
