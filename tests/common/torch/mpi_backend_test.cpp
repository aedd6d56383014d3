// SPDX-License-Identifier: Apache-2.0

// What the MPI backend has beyond the tests that it shares with Gloo
// (process_group_test, reducer_test). Run by mpirun at 1, 2, 3 and 4 ranks.
// Values are small whole numbers, so every sum is exact.

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <thread>

#include "common/torch/c10d_compat.h"
#include "common/torch/mpi_library.h"
#include "tests/support/distributed_test.h"

namespace dai {
namespace {

using dai::testing::group;
using std::chrono::milliseconds;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;
using RedOp = ::c10d::ReduceOp::RedOpType;
using Tensors = std::vector<at::Tensor>;

c10::intrusive_ptr<::c10d::Backend> make_backend(
    const MpiOptions& options = {.timeout = milliseconds(20000)}) {
  return load_mpi_library().make_backend(group().rank(), group().size(),
                                         options);
}

// A backend of its own beside the group's, as tests of its edges want it.
class MpiBackend : public ::testing::Test {
 protected:
  int rank() const { return group().rank(); }
  int size() const { return group().size(); }

  at::Tensor reduced(at::Tensor tensor, RedOp op) {
    Tensors tensors{std::move(tensor)};
    backend_->allreduce(tensors, {.reduceOp = op})->wait();
    return tensors[0];
  }

  c10::intrusive_ptr<::c10d::Backend> backend_ = make_backend();
};

TEST_F(MpiBackend, SixteenBitFloatsKnowEveryReduction) {
  const int n = size();
  const double product = n == 4 ? 24 : n == 3 ? 6 : n;
  for (const auto type : {at::kHalf, at::kBFloat16}) {
    const auto mine = [&] { return at::full({5}, rank() + 1.0, type); };
    const auto is = [&](RedOp op, double value) {
      EXPECT_TRUE(at::equal(reduced(mine(), op), at::full({5}, value, type)))
          << c10::toString(type) << " op " << static_cast<int>(op);
    };
    is(RedOp::SUM, n * (n + 1) / 2.0);
    is(RedOp::PRODUCT, product);
    is(RedOp::MIN, 1);
    is(RedOp::MAX, n);
    is(RedOp::AVG, (n + 1) / 2.0);
  }
}

TEST_F(MpiBackend, BoolsAddByOrAndMultiplyByAnd) {
  // [true on rank 0 alone, everywhere, nowhere]
  const at::Tensor mine = at::tensor({rank() == 0 ? 1 : 0, 1, 0}).to(at::kBool);
  const bool alone = size() == 1;
  const auto is = [&](RedOp op, std::vector<bool> expected) {
    const at::Tensor got = reduced(mine.clone(), op);
    EXPECT_EQ(got.scalar_type(), at::kBool);
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(got[i].item<bool>(), expected[i])
          << "op " << static_cast<int>(op) << " element " << i;
    }
  };
  is(RedOp::SUM, {true, true, false});
  is(RedOp::MAX, {true, true, false});
  is(RedOp::BOR, {true, true, false});
  is(RedOp::PRODUCT, {alone, true, false});
  is(RedOp::MIN, {alone, true, false});
  is(RedOp::BAND, {alone, true, false});
  is(RedOp::BXOR, {true, size() % 2 == 1, false});
}

TEST_F(MpiBackend, WholeNumbersAndComplexOnesAreReduced) {
  const int n = size();
  for (const auto type : {at::kByte, at::kChar, at::kShort, at::kInt, at::kLong,
                          at::kUInt16, at::kUInt32, at::kUInt64}) {
    const auto result =
        reduced(at::full({3}, rank() + 1, at::kLong).to(type), RedOp::SUM);
    EXPECT_EQ(result.to(at::kLong)[1].item<std::int64_t>(), n * (n + 1) / 2);
    const auto bits =
        reduced(at::full({3}, 1 << rank(), at::kLong).to(type), RedOp::BOR);
    EXPECT_EQ(bits.to(at::kLong)[2].item<std::int64_t>(), (1 << n) - 1);
  }
  for (const auto type : {at::kComplexFloat, at::kComplexDouble}) {
    const auto sum = reduced(
        at::full({2}, c10::complex<double>(1, rank()), type), RedOp::SUM);
    EXPECT_EQ(at::real(sum)[0].item<double>(), n);
    EXPECT_EQ(at::imag(sum)[0].item<double>(), n * (n - 1) / 2.0);
  }
}

TEST_F(MpiBackend, ReductionsWithoutMeaningAreRefusedAtOnce) {
  const auto refuses = [&](at::ScalarType type, RedOp op) {
    EXPECT_THROW(reduced(at::zeros({2}, type), op), std::invalid_argument)
        << c10::toString(type) << " op " << static_cast<int>(op);
  };
  refuses(at::kInt, RedOp::AVG);
  refuses(at::kBool, RedOp::AVG);
  refuses(at::kFloat, RedOp::BAND);
  refuses(at::kComplexFloat, RedOp::MAX);
  refuses(at::kFloat8_e4m3fn, RedOp::SUM);
}

TEST_F(MpiBackend, EveryDtypeMoves) {
  for (const auto type : {at::kBool, at::kByte, at::kHalf, at::kBFloat16,
                          at::kFloat8_e4m3fn, at::kFloat8_e5m2, at::kUInt16,
                          at::kInt, at::kDouble, at::kComplexDouble}) {
    const auto ones = at::ones({4}, at::kFloat).to(type);
    at::Tensor mine =
        rank() == 0 ? ones.clone() : at::zeros({4}, at::kFloat).to(type);
    Tensors tensors{mine};
    backend_->broadcast(tensors, {})->wait();
    EXPECT_TRUE(
        at::equal(mine.to(at::kComplexDouble), ones.to(at::kComplexDouble)))
        << c10::toString(type);
  }
}

TEST_F(MpiBackend, UnevenRowsReachTheirRanks) {
  // Rank a sends a + b + 1 rows of (a, b) to rank b.
  std::vector<std::int64_t> to, from;
  Tensors rows;
  for (int b = 0; b < size(); ++b) {
    to.push_back(rank() + b + 1);
    from.push_back(b + rank() + 1);
    rows.push_back(at::tensor({rank(), b}).to(at::kInt).expand({to.back(), 2}));
  }
  at::Tensor input = at::cat(rows);
  at::Tensor output =
      at::full({std::accumulate(from.begin(), from.end(), std::int64_t{0}), 2},
               -1, at::kInt);
  backend_->alltoall_base(output, input, from, to)->wait();
  std::int64_t row = 0;
  for (int a = 0; a < size(); ++a) {
    for (std::int64_t i = 0; i < from[a]; ++i, ++row) {
      EXPECT_EQ(output[row][0].item<int>(), a) << row;
      EXPECT_EQ(output[row][1].item<int>(), rank()) << row;
    }
  }
}

TEST_F(MpiBackend, RowsMayGoToNobody) {
  // Rank 0 sends all, the others nothing.
  std::vector<std::int64_t> to(size(), rank() == 0 ? 2 : 0), from(size(), 0);
  from[0] = 2;
  at::Tensor input = at::arange(rank() == 0 ? 2 * size() : 0).view({-1, 1});
  at::Tensor output = at::zeros({2, 1}, at::kLong);
  backend_->alltoall_base(output, input, from, to)->wait();
  EXPECT_EQ(output[0][0].item<std::int64_t>(), 2 * rank());
}

TEST_F(MpiBackend, TensorsOfManySizesAreExchanged) {
  Tensors inputs, outputs;
  for (int b = 0; b < size(); ++b) {
    inputs.push_back(at::full({rank() + 1, b + 1}, rank() * 10 + b));
    outputs.push_back(at::zeros({b + 1, rank() + 1}, at::kLong));
  }
  backend_->alltoall(outputs, inputs)->wait();
  for (int a = 0; a < size(); ++a) {
    EXPECT_TRUE((outputs[a] == a * 10 + rank()).all().item<bool>());
  }
}

TEST_F(MpiBackend, EveryRootReducesGathersAndScatters) {
  for (int root = 0; root < size(); ++root) {
    Tensors mine{at::full({2}, rank() + 1.0)};
    backend_->reduce(mine, {.reduceOp = RedOp::AVG, .rootRank = root})->wait();
    const double expected = rank() == root ? (size() + 1) / 2.0 : rank() + 1;
    EXPECT_EQ(mine[0][1].item<double>(), expected);

    Tensors part{at::full({3}, rank(), at::kLong)};
    std::vector<Tensors> parts;
    if (rank() == root) {
      parts.emplace_back();
      for (int r = 0; r < size(); ++r) {
        parts[0].push_back(at::full({3}, -1, at::kLong));
      }
    }
    backend_->gather(parts, part, {.rootRank = root})->wait();
    for (int r = 0; rank() == root && r < size(); ++r) {
      EXPECT_EQ(parts[0][r][2].item<std::int64_t>(), r);
      parts[0][r].add_(100);
    }
    Tensors back{at::zeros({3}, at::kLong)};
    backend_->scatter(back, parts, {.rootRank = root})->wait();
    EXPECT_EQ(back[0][0].item<std::int64_t>(), 100 + rank());
  }
}

TEST_F(MpiBackend, LongTensorsTravelInParts) {
  const auto parts =
      make_backend({.timeout = milliseconds(20000), .most_elements = 1000});
  Tensors sums{at::arange(4321).remainder(7).to(at::kFloat)};
  const at::Tensor expected = sums[0] * size();
  parts->allreduce(sums)->wait();
  EXPECT_TRUE(at::equal(sums[0], expected));
  Tensors copies{rank() == 0 ? expected.clone() : at::zeros({4321})};
  parts->broadcast(copies, {})->wait();
  EXPECT_TRUE(at::equal(copies[0], expected));
  if (size() == 1) return;
  Tensors out{expected + rank()}, in{at::zeros({4321})};
  auto sent = parts->send(out, (rank() + 1) % size(), 5);
  parts->recv(in, (rank() + size() - 1) % size(), 5)->wait();
  sent->wait();
  EXPECT_TRUE(at::equal(in[0], expected + (rank() + size() - 1) % size()));
}

TEST_F(MpiBackend, AMessageFromAnybodyNamesItsSender) {
  if (size() == 1) return;
  if (rank() != 0) {
    Tensors out{at::full({2}, rank(), at::kLong)};
    backend_->send(out, 0, 9)->wait();
    return;
  }
  std::vector<int> seen;
  for (int i = 1; i < size(); ++i) {
    Tensors in{at::zeros({2}, at::kLong)};
    auto work = backend_->recvAnysource(in, 9);
    work->wait();
    EXPECT_EQ(work->sourceRank(), in[0][1].item<std::int64_t>());
    seen.push_back(work->sourceRank());
  }
  std::sort(seen.begin(), seen.end());
  std::vector<int> expected(size() - 1);
  std::iota(expected.begin(), expected.end(), 1);
  EXPECT_EQ(seen, expected);
}

TEST_F(MpiBackend, NothingWaitsForTheOneBefore) {
  // Rank 0 joins the first collective only after the second, on another
  // communicator, is over: a backend with one blocking queue would hang.
  const auto other = make_backend();
  Tensors late{at::ones({8})}, early{at::ones({8})};
  c10::intrusive_ptr<::c10d::Work> first;
  if (rank() != 0) first = backend_->allreduce(late);
  other->allreduce(early)->wait();
  EXPECT_EQ(early[0][0].item<float>(), size());
  if (rank() == 0) first = backend_->allreduce(late);
  first->wait();
  EXPECT_EQ(late[0][7].item<float>(), size());
}

TEST_F(MpiBackend, FuturesHoldTheResultAndCallBack) {
  Tensors tensors{at::ones({3})};
  auto work = backend_->allreduce(tensors);
  std::atomic<bool> called{false};
  work->getFuture()->addCallback([&](c10::ivalue::Future&) { called = true; });
  work->wait();
  EXPECT_TRUE(called);
  EXPECT_TRUE(work->isCompleted());
  EXPECT_TRUE(work->isSuccess());
  const auto result = work->getFuture()->value().toTensorVector();
  EXPECT_EQ(result[0].data_ptr(), tensors[0].data_ptr());
}

TEST_F(MpiBackend, GroupsMayCloseInAnyOrder) {
  auto a = make_backend(), b = make_backend();
  // Even and odd ranks let go of them the other way round.
  (rank() % 2 ? a : b).reset();
  Tensors tensors{at::ones({1})};
  backend_->allreduce(tensors)->wait();
  (rank() % 2 ? b : a).reset();
  backend_->barrier()->wait();
}

TEST_F(MpiBackend, WhatNobodyAnswersTimesOut) {
  if (size() == 1) return;
  const auto hasty = make_backend({.timeout = milliseconds(300)});
  Tensors in{at::zeros({1})};
  auto work = hasty->recv(in, (rank() + 1) % size(), 77);
  EXPECT_THAT([&] { work->wait(); },
              ThrowsMessage<std::runtime_error>(HasSubstr("timed out")));
  EXPECT_FALSE(work->isSuccess());
  // Other operations go on.
  Tensors tensors{at::ones({1})};
  backend_->allreduce(tensors)->wait();
  EXPECT_EQ(tensors[0].item<float>(), size());
}

}  // namespace
}  // namespace dai
