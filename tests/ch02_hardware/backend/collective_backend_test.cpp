// SPDX-License-Identifier: Apache-2.0

// What --backend dai has beyond the tests that it shares with Gloo
// (process_group_test, reducer_test): messages with tags, lists, many
// operations at once. Values are small whole numbers: every sum is exact.

#include <ATen/Functions.h>
#include <gmock/gmock.h>

#include "common/torch/c10d_compat.h"
#include "common/torch/collectives_library.h"
#include "tests/support/distributed_test.h"

namespace dai {
namespace {

using dai::testing::group;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;
using Tensors = std::vector<at::Tensor>;
using WorkPtr = c10::intrusive_ptr<::c10d::Work>;

int rank() {
  return group().rank();
}
int size() {
  return group().size();
}
at::Tensor filled(std::int64_t n, double value) {
  return at::full({n}, value, at::kFloat);
}
bool all_are(const at::Tensor& tensor, double value) {
  return at::equal(tensor, at::full_like(tensor, value));
}
// A backend of its own beside the group's, over each medium: the group would
// remember an error as its last word.
class DaiBackend : public ::testing::TestWithParam<const char*> {
 protected:
  DaiBackend() {
    static int made = 0;
    setenv("DAI_MEDIUM", GetParam(), 1);
    const auto store = c10::make_intrusive<::c10d::PrefixStore>(
        "backend test " + std::to_string(made++), group().store());
    auto result = load_collectives_library().make_backend(
        store, {.rank = rank(),
                .size = size(),
                .address = "127.0.0.1",
                .node = "here",
                .timeout = std::chrono::seconds(20)});
    EXPECT_EQ(result.description, GetParam());
    backend_ = result.backend;
  }
  WorkPtr send(const at::Tensor& tensor, int to, int tag) {
    Tensors one{tensor};
    return backend_->send(one, to, tag);
  }
  WorkPtr receive(const at::Tensor& tensor, int from, int tag) {
    Tensors one{tensor};
    return backend_->recv(one, from, tag);
  }
  int next() const { return (rank() + 1) % size(); }
  int previous() const { return (rank() + size() - 1) % size(); }

  c10::intrusive_ptr<::c10d::Backend> backend_;
};

TEST(DaiGroup, IsTheOneUnderTest) {
  EXPECT_EQ(group().backend_name(), "dai");
  EXPECT_THAT(group().description(), HasSubstr("dai via shm"));
}

TEST_P(DaiBackend, ManyOperationsAreUnderWayAtOnce) {
  std::vector<at::Tensor> tensors;
  std::vector<WorkPtr> works;
  for (int i = 0; i < 50; ++i) {
    tensors.push_back(filled(i * 100, rank() + i));
    Tensors one{tensors.back()};
    works.push_back(backend_->allreduce(one));
  }
  for (int i = 49; i >= 0; --i) {
    works[i]->wait();
    const double sum = size() * (size() - 1) / 2.0 + size() * i;
    EXPECT_TRUE(all_are(tensors[i], sum)) << i;
  }
}

// Every rank sends before it receives, more than any buffer holds.
TEST_P(DaiBackend, LargeMessagesCross) {
  if (size() == 1) return;  // there is nobody to send to
  const std::int64_t n = 3'000'000;
  const auto out = filled(n, rank()), in = filled(n, -1);
  const auto sent = send(out, next(), 7);
  const auto received = receive(in, previous(), 7);
  sent->wait();
  received->wait();
  EXPECT_TRUE(all_are(in, previous()));
}

TEST_P(DaiBackend, TagsTellMessagesApartAndKeepTheirOrder) {
  if (size() == 1) return;  // there is nobody to send to
  std::vector<WorkPtr> works;
  for (const int tag : {1, 2, 1, 2}) {
    const double value = 10 * tag + works.size();
    works.push_back(send(filled(5, value), next(), tag));
  }
  std::vector<at::Tensor> in;
  for (const int tag : {2, 2, 1, 1}) {
    in.push_back(filled(5, -1));
    works.push_back(receive(in.back(), previous(), tag));
  }
  for (const auto& work : works) work->wait();
  EXPECT_TRUE(all_are(in[0], 21));
  EXPECT_TRUE(all_are(in[1], 23));
  EXPECT_TRUE(all_are(in[2], 10));
  EXPECT_TRUE(all_are(in[3], 12));
}

// A message that waits for nobody does not wait for a collective either.
TEST_P(DaiBackend, MessagesPassCollectives) {
  if (size() == 1) return;
  Tensors tensors{filled(10, 1)};
  if (rank() == 0) {
    // Rank 1 joins the all_reduce only when it has our message.
    const auto reduced = backend_->allreduce(tensors);
    send(filled(1, 5), 1, 0)->wait();
    reduced->wait();
  } else {
    const auto in = filled(1, 0);
    if (rank() == 1) receive(in, 0, 0)->wait();
    backend_->allreduce(tensors)->wait();
  }
  EXPECT_TRUE(all_are(tensors[0], size()));
}

TEST_P(DaiBackend, AnybodysMessageSaysWhoseItIs) {
  if (rank() != 0) {
    send(filled(3, rank()), 0, 4)->wait();
  } else {
    double sum = 0;
    for (int i = 1; i < size(); ++i) {
      Tensors in{filled(3, -1)};
      const auto work = backend_->recvAnysource(in, 4);
      work->wait();
      EXPECT_TRUE(all_are(in[0], work->sourceRank()));
      sum += work->sourceRank();
    }
    EXPECT_EQ(sum, size() * (size() - 1) / 2.0);
  }
}

TEST_P(DaiBackend, AnotherSizeIsNamed) {
  if (size() == 1) return;  // there is nobody to send to
  send(filled(2, 1), next(), 9)->wait();
  const auto in = filled(3, -1);
  Tensors one{in};
  const auto work = backend_->recv(one, previous(), 9);
  EXPECT_THAT([&] { work->wait(); },
              ThrowsMessage<std::runtime_error>(
                  HasSubstr("sent 8 bytes, 12 were expected")));
}

TEST_P(DaiBackend, ListsArriveInTheirTensors) {
  const double n = size();
  Tensors mine{filled(4, rank())};
  std::vector<Tensors> gathered(1);
  for (int r = 0; r < size(); ++r) gathered[0].push_back(filled(4, -1));
  backend_->allgather(gathered, mine)->wait();
  for (int r = 0; r < size(); ++r) EXPECT_TRUE(all_are(gathered[0][r], r));

  Tensors sum{filled(4, -1)};
  std::vector<Tensors> parts(1);
  for (int r = 0; r < size(); ++r) parts[0].push_back(filled(4, r));
  backend_->reduce_scatter(sum, parts)->wait();
  EXPECT_TRUE(all_are(sum[0], n * rank()));

  const int root = size() - 1;
  std::vector<Tensors> at_root;
  if (rank() == root) {
    at_root.resize(1);
    for (int r = 0; r < size(); ++r) at_root[0].push_back(filled(4, -1));
  }
  backend_->gather(at_root, mine, {.rootRank = root})->wait();
  for (int r = 0; rank() == root && r < size(); ++r) {
    EXPECT_TRUE(all_are(at_root[0][r], r));
  }
  std::vector<Tensors> from_root;
  if (rank() == root) {
    from_root.resize(1);
    for (int r = 0; r < size(); ++r) from_root[0].push_back(filled(4, 7 + r));
  }
  Tensors part{filled(4, -1)};
  backend_->scatter(part, from_root, {.rootRank = root})->wait();
  EXPECT_TRUE(all_are(part[0], 7 + rank()));

  // Of all different lengths: r + 1 elements to rank r.
  Tensors out, in;
  for (int r = 0; r < size(); ++r) {
    out.push_back(filled(r + 1, 10 * rank() + r));
    in.push_back(filled(rank() + 1, -1));
  }
  backend_->alltoall(in, out)->wait();
  for (int r = 0; r < size(); ++r) {
    EXPECT_TRUE(all_are(in[r], 10 * r + rank()));
  }
}

TEST_P(DaiBackend, AnUnknownReductionIsRefusedBeforeItIsSent) {
  Tensors complex{at::ones({3}, at::kComplexFloat)};
  EXPECT_THAT([&] { backend_->allreduce(complex)->wait(); },
              ThrowsMessage<std::exception>(HasSubstr("dai does not reduce")));
}

INSTANTIATE_TEST_SUITE_P(Media, DaiBackend, ::testing::Values("shm", "tcp"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace dai
