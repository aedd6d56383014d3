// SPDX-License-Identifier: Apache-2.0

// Every algorithm on every medium against the plain reference, and a seeded
// fuzz over all that can vary; DAI_FUZZ_ROUNDS and DAI_FUZZ_SEED make it longer
// and other. nightly.collectives_test does, and tries sizes beyond 32 bits.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cstdlib>
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

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* const value = std::getenv(name);
  return value ? std::strtoull(value, nullptr, 10) : otherwise;
}

// All ranks draw the same cases from the same seed.
TEST_P(OnMedium, FuzzedCasesEqualTheReference) {
  std::mt19937_64 random(from_environment("DAI_FUZZ_SEED", 1234));
  const std::uint64_t rounds = from_environment("DAI_FUZZ_ROUNDS", 12);
  for (std::uint64_t round = 0; round < rounds; ++round) {
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

// More bytes than an int counts; a byte an element, to fit the memory.
TEST_P(OnMedium, HugeSizesAreNoSpecialCase) {
  if (!std::getenv("DAI_FUZZ_HUGE")) {
    GTEST_SKIP() << "needs 10 GB and minutes: nightly";
  }
  const auto said =
      on_ranks({.medium = GetParam(), .ranks = 2}, [](Transport& t) {
        const std::size_t count = (std::size_t{1} << 31) + 5;
        std::vector<std::uint8_t> data(count, 1);
        data.back() = 100;
        Operands o;
        o.input = o.output = data.data();
        o.count = count;
        o.dtype = DType::kUInt8;
        for (const char* name : {"ring", "halving_doubling", "two_shot"}) {
          const Algorithm& algorithm =
              algorithm_by_name(Collective::kAllReduce, name);
          if (!algorithm.runs_on(o.bytes(), t)) continue;
          data.assign(count, 1);
          data.back() = 100;
          algorithm.run(o, t);
          expect(data.front() == 2 && data[count / 2] == 2 &&
                     data[count - 2] == 2 && data.back() == 200,
                 std::string(name) + ": wrong");
        }
      });
  EXPECT_THAT(said, Each(IsEmpty()));
}

INSTANTIATE_TEST_SUITE_P(Media, OnMedium, ::testing::ValuesIn(kAllMedia),
                         [](const auto& info) {
                           return std::string(1, 'a' + info.index);
                         });

}  // namespace
}  // namespace dai::hardware::testing
