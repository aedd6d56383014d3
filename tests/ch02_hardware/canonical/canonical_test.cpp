// SPDX-License-Identifier: Apache-2.0

// Bits that depend on nothing but the numbers: not on ranks, their share, the
// algorithm, the medium or the place in the buffer.

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "ch02_hardware/canonical/canonical_tree.h"
#include "ch02_hardware/canonical/fixed_point_sum.h"
#include "ch02_hardware/reduction/combine.h"
#include "ch02_hardware/reduction/float16.h"
#include "tests/ch02_hardware/support/rank_runner.h"

namespace dai::hardware::testing {
namespace {

using ::testing::Each;
using ::testing::IsEmpty;
using Row = std::vector<std::byte>;

// Numbers of very different sizes, so that every order rounds differently.
std::vector<Row> random_rows(std::int64_t microbatches, std::size_t count,
                             DType dtype, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::vector<Row> rows(microbatches, Row(count * size_of(dtype)));
  for (Row& row : rows) {
    for (std::size_t i = 0; i < count; ++i) {
      const double value =
          normal(random) * std::pow(2.0, static_cast<int>(random() % 9) - 4);
      std::byte* const at = row.data() + i * size_of(dtype);
      const auto put = [&](auto typed) {
        std::memcpy(at, &typed, sizeof typed);
      };
      if (dtype == DType::kFloat32) put(static_cast<float>(value));
      if (dtype == DType::kFloat64) put(value);
      if (dtype == DType::kBFloat16) put(to_bf16(static_cast<float>(value)));
      if (dtype == DType::kFloat16) put(to_fp16(static_cast<float>(value)));
    }
  }
  return rows;
}

// The definition, as chapter 1 draws it: level by level over all rows.
Row tree_sum(std::vector<Row> rows, std::size_t count, DType dtype) {
  for (std::size_t stride = 1; stride < rows.size(); stride *= 2) {
    for (std::size_t i = 0; i + stride < rows.size(); i += 2 * stride) {
      combine(rows[i].data(), rows[i].data(), rows[i + stride].data(), count,
              dtype, ReduceOp::kSum);
    }
  }
  return rows[0];
}

Row left_fold(const std::vector<Row>& rows, std::size_t count, DType dtype) {
  Row sum = rows[0];
  for (std::size_t i = 1; i < rows.size(); ++i) {
    combine(sum.data(), sum.data(), rows[i].data(), count, dtype,
            ReduceOp::kSum);
  }
  return sum;
}

TEST(CanonicalTree, ShipsTheLargestSubtreesOfEachRank) {
  const CanonicalTree two(CanonicalTree::even_owners(12, 2));
  EXPECT_EQ(two.subtrees_of(0), (std::vector<Subtree>{{0, 2}, {4, 1}}));
  EXPECT_EQ(two.subtrees_of(1), (std::vector<Subtree>{{6, 1}, {8, 3}}));
  EXPECT_EQ(two.wire_factor(0), 1.5);
  const CanonicalTree three(CanonicalTree::even_owners(12, 3));
  EXPECT_EQ(three.wire_factor(1), 1.0);
  const CanonicalTree alone(CanonicalTree::even_owners(12, 1));
  EXPECT_EQ(alone.subtrees_of(0), (std::vector<Subtree>{{0, 4}}));
  const CanonicalTree mixed({0, 1, 0, 1});
  EXPECT_EQ(mixed.subtrees_of(1), (std::vector<Subtree>{{1, 0}, {3, 0}}));
  EXPECT_TRUE(mixed.subtrees_of(2).empty());
  EXPECT_THROW(CanonicalTree::even_owners(12, 5), std::invalid_argument);
  EXPECT_THROW(CanonicalTree({}), std::invalid_argument);
}

TEST(CanonicalAccumulator, HoldsAboutTheLogarithmOfTheRows) {
  const CanonicalTree tree(CanonicalTree::even_owners(64, 1));
  CanonicalAccumulator sum(tree, 0, 10, DType::kFloat32);
  const auto rows = random_rows(64, 10, DType::kFloat32, 1);
  for (int id = 0; id < 64; ++id) {
    if (id == 63) {
      EXPECT_THROW(sum.partials(), std::logic_error);
    }
    sum.add(id, rows[id].data());
  }
  EXPECT_EQ(sum.most_rows(), 7u);  // 6 on the way up, and the one that comes
  EXPECT_THROW(sum.add(63, rows[63].data()), std::logic_error);
  const Row reference = tree_sum(rows, 10, DType::kFloat32);
  EXPECT_EQ(std::memcmp(sum.partials()[0], reference.data(), 40), 0);
  sum.clear();
  EXPECT_THROW(sum.partials(), std::logic_error);
}

// What every rank has to get: [count] of dtype.
void expect_bits(const void* sum, const Row& reference,
                 const std::string& what) {
  expect(std::memcmp(sum, reference.data(), reference.size()) == 0,
         what + ": other bits");
}

struct OnMedium : ::testing::TestWithParam<Medium> {};

TEST_P(OnMedium, TheTreeGivesTheSameBitsForAnyRanksAndShares) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 14; ++round) {
    const int ranks = 1 + round % 7;
    const std::int64_t microbatches = 1 + random() % 20;
    const std::size_t count = round % 3 == 0 ? 50000 : random() % 300;
    constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat64,
                                DType::kBFloat16, DType::kFloat16};
    const DType dtype = kTypes[round % 4];
    std::vector<int> owners;
    for (std::int64_t id = 0; id < microbatches; ++id) {
      owners.push_back(static_cast<int>(random() % ranks));
    }
    if (round % 2 == 0) std::sort(owners.begin(), owners.end());
    const auto rows = random_rows(microbatches, count, dtype, round);
    const Row reference = tree_sum(rows, count, dtype);
    const std::uint64_t seed = random();
    const auto said =
        on_ranks({.medium = GetParam(), .ranks = ranks}, [&](Transport& t) {
          const CanonicalTree tree(owners);
          CanonicalAccumulator mine(tree, t.rank(), count, dtype);
          std::vector<std::int64_t> ids;
          for (std::int64_t id = 0; id < microbatches; ++id) {
            if (owners[id] == t.rank()) ids.push_back(id);
          }
          std::shuffle(ids.begin(), ids.end(), std::mt19937_64(seed));
          for (const auto id : ids) mine.add(id, rows[id].data());
          Row sum(count * size_of(dtype) + 1);
          canonical_all_reduce(tree, mine.partials(), sum.data(), count, dtype,
                               t);
          expect_bits(sum.data(), reference, to_string(dtype));
        });
    EXPECT_THAT(said, Each(IsEmpty())) << "round " << round;
  }
}

TEST_P(OnMedium, ASumMayTakeTheFirstPartialsPlace) {
  const std::size_t count = 100000;
  const auto rows = random_rows(4, count, DType::kFloat32, 3);
  const Row reference = tree_sum(rows, count, DType::kFloat32);
  const auto said =
      on_ranks({.medium = GetParam(), .ranks = 4}, [&](Transport& t) {
        const CanonicalTree tree(CanonicalTree::even_owners(4, 4));
        Row mine = rows[t.rank()];
        const void* const partial = mine.data();
        canonical_all_reduce(tree, {&partial, 1}, mine.data(), count,
                             DType::kFloat32, t);
        expect_bits(mine.data(), reference, "in place");
      });
  EXPECT_THAT(said, Each(IsEmpty()));
}

// Ranks that disagree on who owns what would add up nonsense.
TEST_P(OnMedium, AnotherShareOfTheIdsIsFound) {
  const auto said =
      on_ranks({.medium = GetParam(), .ranks = 2}, [&](Transport& t) {
        const CanonicalTree tree(t.rank() == 0 ? std::vector{0, 1, 0}
                                               : std::vector{0, 1, 1});
        std::vector<float> row(10, 1);
        std::vector<const void*> partials(tree.subtrees_of(t.rank()).size(),
                                          row.data());
        canonical_all_reduce(tree, partials, row.data(), 10, DType::kFloat32,
                             t);
      });
  EXPECT_THAT(said, Each(::testing::HasSubstr("uses another algorithm")));
}

TEST_P(OnMedium, FixedPointGivesTheSameBitsByAnyAlgorithm) {
  for (const DType dtype :
       {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    const std::size_t count = 5000;
    const auto rows = random_rows(12, count, dtype, 5);
    std::vector<const void*> all;
    for (const Row& row : rows) all.push_back(row.data());
    Row reference(count * size_of(dtype));
    naive_fixed_point_sum(all, reference.data(), count, dtype);
    for (const int ranks : {1, 2, 3, 4}) {
      const auto said =
          on_ranks({.medium = GetParam(), .ranks = ranks}, [&](Transport& t) {
            for (const char* name :
                 {"ring", "halving_doubling", "binomial_tree"}) {
              std::vector<const void*> mine;
              for (int id = t.rank(); id < 12; id += ranks) {
                mine.push_back(rows[id].data());
              }
              Row sum(reference.size());
              fixed_point_all_reduce(
                  mine, sum.data(), count, dtype, 12, t,
                  algorithm_by_name(Collective::kAllReduce, name));
              expect_bits(sum.data(), reference, name);
            }
          });
      EXPECT_THAT(said, Each(IsEmpty())) << ranks << " ranks";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Media, OnMedium,
                         ::testing::Values(Medium::kThreads, Medium::kShm,
                                           Medium::kTcp),
                         [](const auto& info) {
                           return std::string(1, 'a' + info.index);
                         });

// Wide enough for the exact sum of some floats of like size.
#ifdef __SIZEOF_FLOAT128__
__extension__ using Exact = __float128;
#else
using Exact = long double;
#endif

float fixed_sum(const std::vector<float>& values) {
  std::vector<const void*> rows;
  for (const float& value : values) rows.push_back(&value);
  float sum = 0;
  naive_fixed_point_sum(rows, &sum, 1, DType::kFloat32);
  return sum;
}

// More accurate than any order of float additions: the exact sum, rounded once.
TEST(FixedPoint, RoundsTheExactSumOnce) {
  std::mt19937_64 random(11);
  std::normal_distribution<float> normal;
  for (int round = 0; round < 2000; ++round) {
    std::vector<float> values(1 + random() % 30);
    Exact exact = 0;
    for (float& value : values) {
      value = normal(random);
      exact += value;
    }
    EXPECT_EQ(fixed_sum(values), static_cast<float>(exact));
  }
  EXPECT_EQ(fixed_sum({1e8f, 1, -1e8f}), 1);
  EXPECT_EQ(fixed_sum({0x1p-149f, 0x1p-149f}), 0x1p-148f);
  EXPECT_EQ(fixed_sum({0, -0.0f}), 0);
  EXPECT_EQ(fixed_sum({std::numeric_limits<float>::max(),
                       std::numeric_limits<float>::max()}),
            std::numeric_limits<float>::infinity());
}

TEST(FixedPoint, InfinitiesAndNansComeOutAsInAnAddition) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(fixed_sum({1, infinity, 3}), infinity);
  EXPECT_EQ(fixed_sum({1, -infinity, -infinity}), -infinity);
  EXPECT_TRUE(std::isnan(fixed_sum({infinity, 5, -infinity})));
  EXPECT_TRUE(std::isnan(fixed_sum({nan, infinity})));
  EXPECT_TRUE(std::isnan(fixed_sum({nan, 1})));
}

// The point of it all: other orders give other bits.
TEST(CanonicalTree, OrdersDiffer) {
  const auto rows = random_rows(12, 1000, DType::kFloat32, 9);
  EXPECT_NE(tree_sum(rows, 1000, DType::kFloat32),
            left_fold(rows, 1000, DType::kFloat32));
}

}  // namespace
}  // namespace dai::hardware::testing
