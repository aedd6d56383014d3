// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/sync/canonical_sum.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <stdexcept>

#include "ch01_intro/counter_random.h"
#include "tests/support/distributed_test.h"

namespace dai::intro {
namespace {

using Row = std::vector<float>;

// Signs and magnitudes mixed, so that the order of additions shows.
float value(std::int64_t id, std::int64_t i) {
  const float u = 2 * uniform01(stream_key(id, "row"), i) - 1;
  return std::ldexp(u, static_cast<int>((id * 7 + i) % 24));
}

Row row_of(std::int64_t id, std::int64_t elements) {
  Row row(elements);
  for (std::int64_t i = 0; i < elements; ++i) row[i] = value(id, i);
  return row;
}

Row added(const Row& a, const Row& b) {
  Row sum(a);
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += b[i];
  return sum;
}

// The definition once more, by plain means: add neighbours, the last one
// passes if it has none, until a single row is left.
Row reference(std::vector<Row> rows) {
  while (rows.size() > 1) {
    std::vector<Row> next;
    for (std::size_t i = 0; i < rows.size(); i += 2) {
      next.push_back(i + 1 < rows.size() ? added(rows[i], rows[i + 1])
                                         : rows[i]);
    }
    rows = next;
  }
  return rows[0];
}

Row reference(std::int64_t microbatches, std::int64_t elements) {
  std::vector<Row> rows;
  for (std::int64_t id = 0; id < microbatches; ++id) {
    rows.push_back(row_of(id, elements));
  }
  return reference(rows);
}

at::Tensor rows_tensor(std::int64_t first, std::int64_t count,
                       std::int64_t elements) {
  at::Tensor rows = at::empty({count, elements}, at::kFloat);
  for (std::int64_t r = 0; r < count; ++r) {
    const Row row = row_of(first + r, elements);
    std::memcpy(rows[r].data_ptr<float>(), row.data(),
                row.size() * sizeof(float));
  }
  return rows.to(testing::group().device());
}

void expect_same_bits(const at::Tensor& tensor, const Row& expected) {
  const at::Tensor cpu = tensor.cpu().contiguous();
  ASSERT_EQ(cpu.numel(), static_cast<std::int64_t>(expected.size()));
  EXPECT_EQ(std::memcmp(cpu.data_ptr<float>(), expected.data(),
                        expected.size() * sizeof(float)),
            0);
}

TEST(CanonicalSum, TheFixedTreeIsTheOneDrawnInTheHeader) {
  for (const std::int64_t count : {1, 2, 3, 5, 7, 8, 12}) {
    expect_same_bits(add_by_fixed_tree(rows_tensor(0, count, 50)),
                     reference(count, 50));
  }
}

// Without this the next test could pass by luck.
TEST(CanonicalSum, TheOrderOfTheseAdditionsMatters) {
  Row in_a_line(50);
  for (std::int64_t id = 0; id < 12; ++id) {
    in_a_line = added(in_a_line, row_of(id, 50));
  }
  EXPECT_NE(in_a_line, reference(12, 50));
}

TEST(CanonicalSum, SameBitsAtEveryNumberOfRanks) {
  ProcessGroup& group = testing::group();
  for (const std::int64_t elements : {1, 3, 1000}) {
    const std::int64_t mine = 12 / group.size();
    SyncTimes times;
    const at::Tensor sum = naive_canonical_sum(
        rows_tensor(group.rank() * mine, mine, elements), &group, &times);
    expect_same_bits(sum, reference(12, elements));
    EXPECT_GT(times.wire_ms, 0);
  }
}

TEST(CanonicalSum, AloneMeansAllRowsAreMine) {
  expect_same_bits(naive_canonical_sum(rows_tensor(0, 12, 100), nullptr),
                   reference(12, 100));
}

// Two parameters of odd sizes, gradients known: d/dw sum(w * c) = c.
class CanonicalSyncTest : public ::testing::Test {
 protected:
  void backward(std::int64_t id) {
    at::Tensor c = rows_tensor(id, 1, 12)[0];
    ((weights_[0].tensor * c.narrow(0, 0, 5).reshape({5, 1})).sum() +
     (weights_[1].tensor * c.narrow(0, 5, 7)).sum())
        .backward();
  }
  static NamedParameter weight(const char* name, at::IntArrayRef shape) {
    return {name, at::zeros(shape, at::TensorOptions(testing::group().device()))
                      .requires_grad_(true)};
  }
  std::vector<NamedParameter> weights_{weight("a", {5, 1}), weight("b", {7})};
};

TEST_F(CanonicalSyncTest, LeavesTheMeanOfAllMicrobatches) {
  ProcessGroup& group = testing::group();
  CanonicalSync sync(weights_, 12, &group);
  Row mean = reference(12, 12);
  for (float& m : mean) m /= 12;
  const std::int64_t mine = 12 / group.size();
  for (int step = 0; step < 2; ++step) {  // the second must forget the first
    sync.begin_step();
    for (std::int64_t k = 0; k < mine; ++k) {
      const Microbatch microbatch{group.rank() * mine + k, k + 1 == mine};
      backward(microbatch.id);
      sync.after_backward(microbatch);
    }
    sync.finish_step();
    EXPECT_EQ(weights_[0].tensor.grad().sizes(), at::IntArrayRef({5, 1}));
    expect_same_bits(weights_[0].tensor.grad(),
                     Row(mean.begin(), mean.begin() + 5));
    expect_same_bits(weights_[1].tensor.grad(),
                     Row(mean.begin() + 5, mean.end()));
  }
}

TEST_F(CanonicalSyncTest, RefusesAStepWithAMissingMicrobatch) {
  CanonicalSync sync(weights_, 12, &testing::group());
  sync.begin_step();
  EXPECT_THROW(sync.finish_step(), std::logic_error);
}

// As many as expected, but not each of them: the count alone would pass.
TEST_F(CanonicalSyncTest, RefusesAMicrobatchTwiceOrOfAnotherRank) {
  ProcessGroup& group = testing::group();
  CanonicalSync sync(weights_, 12, &group);
  const std::int64_t mine = 12 / group.size();
  const std::int64_t first = group.rank() * mine;
  sync.begin_step();
  backward(first);
  sync.after_backward({first, false});
  backward(first);
  EXPECT_THROW(sync.after_backward({first, false}), std::logic_error);
  EXPECT_THROW(sync.after_backward({first + mine, false}), std::logic_error);
  EXPECT_THROW(sync.after_backward({first - 1, false}), std::logic_error);
}

}  // namespace
}  // namespace dai::intro
