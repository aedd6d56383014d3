// SPDX-License-Identifier: Apache-2.0

// Run at 1, 2, 3 and 4 ranks. Values are small integers in floating point, so
// every sum is exact and the reference is arithmetic, not another collective.

#include "common/torch/process_group.h"

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>

#include "common/torch/c10d_compat.h"
#include "common/torch/distributed_trace.h"
#include "tests/support/distributed_test.h"

namespace dai {
namespace {

using dai::testing::group;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// [n], element i of rank r: r + 1 + i % 7
at::Tensor ramp(int rank, std::int64_t n, at::ScalarType type = at::kFloat) {
  return (at::arange(n).remainder(7) + (rank + 1)).to(type);
}

TEST(AllReduce, SumsEveryDtype) {
  for (const auto type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16,
                          at::kInt, at::kLong, at::kChar, at::kByte}) {
    at::Tensor tensor = ramp(group().rank(), 1001, type);
    group().all_reduce(tensor);
    at::Tensor expected = at::zeros({1001}, type);
    for (int r = 0; r < group().size(); ++r) expected += ramp(r, 1001, type);
    EXPECT_TRUE(at::equal(tensor, expected)) << at::toString(type);
  }
}

TEST(AllReduce, MinMaxProductAverage) {
  const int n = group().size();
  const auto reduce = [](ReduceOp op) {
    at::Tensor one = at::full({3}, group().rank() + 1.0, at::kFloat);
    group().all_reduce(one, op);
    return one[2].item<float>();
  };
  EXPECT_EQ(reduce(ReduceOp::kMin), 1);
  EXPECT_EQ(reduce(ReduceOp::kMax), n);
  EXPECT_EQ(reduce(ReduceOp::kProduct), n == 4 ? 24 : n == 3 ? 6 : n);
  EXPECT_FLOAT_EQ(reduce(ReduceOp::kAvg), (n + 1) / 2.0F);
}

TEST(AllReduce, AcceptsNoElementsAndScalars) {
  at::Tensor none = at::empty({0});
  group().all_reduce(none);
  at::Tensor scalar = at::ones({});
  group().all_reduce(scalar);
  EXPECT_EQ(scalar.item<float>(), group().size());
}

TEST(Broadcast, EveryRootReachesAll) {
  for (int root = 0; root < group().size(); ++root) {
    at::Tensor tensor = ramp(group().rank(), 10);
    group().broadcast(tensor, root);
    EXPECT_TRUE(at::equal(tensor, ramp(root, 10)));
  }
}

TEST(AllGather, StacksByRank) {
  const at::Tensor all =
      group().all_gather(ramp(group().rank(), 6).view({2, 3}));
  ASSERT_EQ(all.sizes(), (std::vector<std::int64_t>{group().size(), 2, 3}));
  for (int r = 0; r < group().size(); ++r) {
    EXPECT_TRUE(at::equal(all[r], ramp(r, 6).view({2, 3})));
  }
}

TEST(ReduceScatter, ShardsSumToAllReduce) {
  const int n = group().size();
  at::Tensor whole = ramp(group().rank(), 5 * n);
  const at::Tensor mine = group().reduce_scatter(whole);
  group().all_reduce(whole);
  EXPECT_TRUE(at::equal(mine, whole.narrow(0, 5 * group().rank(), 5)));
}

TEST(AllToAll, TransposesBlocks) {
  const int n = group().size();
  // Block d of rank s holds 10 s + d.
  at::Tensor input = at::empty({2 * n});
  for (int d = 0; d < n; ++d) {
    input.narrow(0, 2 * d, 2).fill_(10 * group().rank() + d);
  }
  const at::Tensor output = group().all_to_all(input);
  for (int s = 0; s < n; ++s) {
    EXPECT_EQ(output[2 * s + 1].item<float>(), 10 * s + group().rank());
  }
}

TEST(SendRecv, TravelsARing) {
  const int n = group().size(), rank = group().rank();
  if (n == 1) {
    // A ring of one would be a message to oneself, which is refused.
    EXPECT_THROW(group().send(at::ones({1}), 0), std::invalid_argument);
    return;
  }
  at::Tensor token = at::zeros({4});
  if (rank == 0) {
    group().send(token + 1, 1, 7);
    group().recv(token, n - 1, 7);
    EXPECT_EQ(token[3].item<float>(), n);
  } else {
    group().recv(token, rank - 1, 7);
    group().send(token + 1, (rank + 1) % n, 7);
  }
}

TEST(GatherStrings, TellsAllRanksLongAndEmptyTexts) {
  const auto text = [](int rank) {
    return std::string(rank == 0 ? 9 << 20 : rank - 1, 'a' + rank);
  };
  const auto texts = group().gather_strings(text(group().rank()));
  for (int r = 0; r < group().size(); ++r) EXPECT_TRUE(texts[r] == text(r));
  EXPECT_EQ(group().gather_strings("again").back(), "again");
}

// What would read past an end, block the peers or crash in the backend is an
// exception on the calling rank, and the group goes on working.
TEST(Validation, RefusesBeforeAnythingIsSent) {
  const int n = group().size();
  const auto refused = [](auto call, const char* why) {
    EXPECT_THAT(call, ThrowsMessage<std::invalid_argument>(HasSubstr(why)));
  };
  refused([] { group().all_reduce(at::ones({4, 4}).t()); }, "not contiguous");
  refused([] { group().all_reduce(at::Tensor()); }, "undefined");
  refused([] { group().broadcast(at::ones({1}), 9); }, "root 9");
  refused([] { group().send(at::ones({1}), group().rank()); }, "peer");
  refused([] { group().recv(at::ones({1}), -1); }, "peer -1");
  if (n > 1) {
    refused([&] { group().reduce_scatter(at::ones({n + 1})); }, "input has");
    refused([&] { group().all_to_all(at::ones({n + 1})); }, "do not divide");
  }
  refused(
      [] {
        std::vector<at::Tensor> in{at::ones({2})};
        std::vector<std::vector<at::Tensor>> out{{at::ones({3})}};
        group().c10d()->allgather(out, in)->wait();
      },
      "list 0 must hold");
  at::Tensor one = at::ones({1});
  group().all_reduce(one);
  EXPECT_EQ(one.item<float>(), n);
}

TEST(C10d, CollectivesOverlapWithTheCaller) {
  if (group().size() == 1) return;  // a single rank has nobody to wait for
  at::Tensor tensor = at::ones({1 << 16});
  std::vector<at::Tensor> tensors{tensor};
  at::Tensor token = at::ones({1});
  if (group().rank() == 0) {
    // The other ranks enter only after rank 0 has told them to: a call that
    // waited for the result would never come back.
    auto work = group().c10d()->allreduce(tensors);
    EXPECT_FALSE(work->isCompleted());
    for (int r = 1; r < group().size(); ++r) group().send(token, r);
    work->wait();
  } else {
    group().recv(token, 0);
    group().c10d()->allreduce(tensors)->wait();
  }
  EXPECT_EQ(tensor[5].item<float>(), group().size());
}

// The collectives that have no helper, as c10d offers them to its users.
TEST(C10d, OtherCollectivesPassThrough) {
  const int n = group().size(), rank = group().rank(), root = n - 1;
  auto& c10d = *group().c10d();
  const at::Tensor mine = ramp(rank, 4);
  at::Tensor sum = at::zeros({4});
  for (int r = 0; r < n; ++r) sum += ramp(r, 4);
  std::vector<at::Tensor> parts;  // one for each rank
  for (int r = 0; r < n; ++r) parts.push_back(at::empty({4}));

  std::vector<at::Tensor> one{mine.clone()};
  ::c10d::ReduceOptions reduce;
  reduce.rootRank = root;
  c10d.reduce(one, reduce)->wait();
  if (rank == root) {
    EXPECT_TRUE(at::equal(one[0], sum));
  }

  std::vector<at::Tensor> input{mine};
  std::vector<std::vector<at::Tensor>> lists{parts};
  c10d.allgather(lists, input)->wait();
  for (int r = 0; r < n; ++r) EXPECT_TRUE(at::equal(parts[r], ramp(r, 4)));

  std::vector<std::vector<at::Tensor>> at_root, none;
  if (rank == root) at_root.push_back(parts);
  ::c10d::GatherOptions gather;
  gather.rootRank = root;
  c10d.gather(at_root, input, gather)->wait();
  if (rank == root) {
    EXPECT_TRUE(at::equal(parts[0], ramp(0, 4)));
  }

  std::vector<at::Tensor> output{at::empty({4})};
  ::c10d::ScatterOptions scatter;
  scatter.rootRank = root;
  c10d.scatter(output, rank == root ? lists : none, scatter)->wait();
  EXPECT_TRUE(at::equal(output[0], mine));

  std::vector<std::vector<at::Tensor>> same{
      std::vector<at::Tensor>(n, mine)};  // to each rank the same
  c10d.reduce_scatter(output, same)->wait();
  EXPECT_TRUE(at::equal(output[0], sum));

  std::vector<at::Tensor> wholes{at::empty({4 * n})};
  c10d.allgather_into_tensor_coalesced(wholes, input)->wait();
  EXPECT_TRUE(at::equal(wholes[0].narrow(0, 4 * root, 4), ramp(root, 4)));
  c10d.reduce_scatter_tensor_coalesced(output, wholes)->wait();
  EXPECT_TRUE(at::equal(output[0], n * ramp(rank, 4)));

  std::vector<at::Tensor> both{mine.clone(), mine + 1};
  c10d.allreduce_coalesced(both)->wait();
  EXPECT_TRUE(at::equal(both[1], sum + n));

  if (rank > 0) group().send(mine, 0, 3);
  for (int r = 1; rank == 0 && r < n; ++r) {
    auto work = c10d.recvAnysource(output, 3);
    work->wait();
    EXPECT_TRUE(at::equal(output[0], ramp(work->sourceRank(), 4)));
  }
}

class Recorder : public CollectiveObserver {
 public:
  void on_begin(const CollectiveEvent& e) override { add("begin ", e); }
  void on_end(const CollectiveEvent& e, std::exception_ptr error) override {
    add(error ? "failed " : "end ", e);
  }
  std::vector<std::string> lines() {
    std::lock_guard lock(mutex_);
    return lines_;
  }
  CollectiveEvent last;

 private:
  void add(const char* what, const CollectiveEvent& e) {
    std::lock_guard lock(mutex_);
    lines_.push_back(what + e.op);
    last = e;
  }
  std::mutex mutex_;
  std::vector<std::string> lines_;
};

TEST(CollectiveObserver, SeesBeginAndEndWithEqualNumbersOnAllRanks) {
  auto recorder = std::make_shared<Recorder>();
  group().add_observer(recorder);
  group().all_reduce(at::ones({2, 3}));
  group().barrier();
  group().all_reduce(at::ones({2, 3}), ReduceOp::kMax);
  group().remove_observer(recorder);
  group().barrier();
  EXPECT_THAT(recorder->lines(),
              ::testing::ElementsAre("begin all_reduce", "end all_reduce",
                                     "begin barrier", "end barrier",
                                     "begin all_reduce", "end all_reduce"));
  const CollectiveEvent& last = recorder->last;
  EXPECT_THAT(last.to_string(),
              ::testing::MatchesRegex(
                  "all_reduce #[0-9]+ \\(float32\\[2, 3\\], max, at "
                  "process_group_test.cpp:[0-9]+\\)"));
  EXPECT_EQ(last.bytes, 24);
  for (const auto& text : group().gather_strings(last.label())) {
    EXPECT_EQ(text, last.label());
  }
}

TEST(MergedTrace, HoldsEveryRanksCollectives) {
  Trace trace(group().rank(), "host");
  auto observer = make_trace_observer(trace);
  group().add_observer(observer);
  group().all_reduce(at::ones({8}));
  group().remove_observer(observer);
  const std::string json = merged_trace(group(), trace);
  if (group().rank() != 0) {
    EXPECT_EQ(json, "");
    return;
  }
  std::size_t spans = 0;
  for (auto at = json.find("\"all_reduce\""); at != std::string::npos;
       at = json.find("\"all_reduce\"", at + 1)) {
    ++spans;
  }
  EXPECT_EQ(spans, static_cast<std::size_t>(group().size()));
}

// On one machine all ranks read the same clock: what the messages make of it
// is the error of the estimate.
TEST(ClockOffset, IsWithinItsOwnErrorOnOneMachine) {
  const ClockOffset offset = clock_offset_to_rank0(group());
  EXPECT_LE(std::abs(offset.offset_us), offset.max_error_us + 1);
}

}  // namespace
}  // namespace dai
