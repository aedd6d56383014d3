// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/collectives/naive.h"

#include "ch02_hardware/reduction/combine.h"

namespace dai::hardware {
namespace {

// The parts that every collective below is made of. A collective announces
// itself first, and waits for all: some copy before anything comes.
void reduce_to(int root, const Operands& o, Transport& t) {
  if (t.rank() != root) return t.send(root, o.input, o.bytes());
  std::byte* const theirs = scratch(o.bytes());
  std::byte* const sum = o.out();
  // In the order of ranks; the root's own turn comes when it comes, so its
  // input must survive until then.
  std::vector<std::byte> mine(o.in(), o.in() + o.bytes());
  for (int peer = 0; peer < t.size(); ++peer) {
    const std::byte* part = mine.data();
    if (peer != root) {
      t.receive(peer, theirs, o.bytes());
      part = theirs;
    }
    if (peer == 0)
      copy_bytes(sum, part, o.bytes());
    else
      combine(sum, sum, part, o.count, o.dtype, o.op);
  }
  if (o.op == ReduceOp::kAvg) divide(sum, o.count, o.dtype, t.size());
}

void broadcast_from(int root, void* data, std::size_t bytes, Transport& t) {
  if (t.rank() != root) return t.receive(root, data, bytes);
  for (int peer = 0; peer < t.size(); ++peer) {
    if (peer != root) t.send(peer, data, bytes);
  }
}

void gather_to(int root, const Operands& o, Transport& t) {
  if (t.rank() != root) return t.send(root, o.input, o.bytes());
  copy_bytes(o.out() + root * o.bytes(), o.input, o.bytes());
  for (int peer = 0; peer < t.size(); ++peer) {
    if (peer != root) t.receive(peer, o.out() + peer * o.bytes(), o.bytes());
  }
}

void scatter_from(int root, const std::byte* all, const Operands& o,
                  Transport& t) {
  if (t.rank() != root) return t.receive(root, o.output, o.bytes());
  for (int peer = 0; peer < t.size(); ++peer) {
    if (peer != root) t.send(peer, all + peer * o.bytes(), o.bytes());
  }
  copy_bytes(o.output, all + root * o.bytes(), o.bytes());
}

}  // namespace

void naive_all_reduce(const Operands& o, Transport& t) {
  check_reduction(o.dtype, o.op);
  t.begin(rootless_call_of(Collective::kAllReduce, o, "naive"));
  t.wait_for_all();
  reduce_to(0, o, t);
  broadcast_from(0, o.output, o.bytes(), t);
}

void naive_reduce(const Operands& o, Transport& t) {
  check_reduction(o.dtype, o.op);
  t.begin(call_of(Collective::kReduce, o, "naive"));
  t.wait_for_all();
  reduce_to(o.root, o, t);
}

void naive_broadcast(const Operands& o, Transport& t) {
  t.begin(call_of(Collective::kBroadcast, o, "naive"));
  t.wait_for_all();
  if (t.rank() == o.root) copy_bytes(o.output, o.input, o.bytes());
  broadcast_from(o.root, o.output, o.bytes(), t);
}

void naive_all_gather(const Operands& o, Transport& t) {
  t.begin(rootless_call_of(Collective::kAllGather, o, "naive"));
  t.wait_for_all();
  gather_to(0, o, t);
  broadcast_from(0, o.output, t.size() * o.bytes(), t);
}

void naive_reduce_scatter(const Operands& o, Transport& t) {
  check_reduction(o.dtype, o.op);
  t.begin(rootless_call_of(Collective::kReduceScatter, o, "naive"));
  t.wait_for_all();
  std::vector<std::byte> sum(t.rank() == 0 ? t.size() * o.bytes() : 0);
  Operands all = o;
  all.count *= t.size();
  all.output = sum.data();
  reduce_to(0, all, t);
  scatter_from(0, sum.data(), o, t);
}

void naive_gather(const Operands& o, Transport& t) {
  t.begin(call_of(Collective::kGather, o, "naive"));
  t.wait_for_all();
  gather_to(o.root, o, t);
}

void naive_scatter(const Operands& o, Transport& t) {
  t.begin(call_of(Collective::kScatter, o, "naive"));
  t.wait_for_all();
  scatter_from(o.root, o.in(), o, t);
}

// Each rank in turn scatters what it has.
void naive_all_to_all(const Operands& o, Transport& t) {
  t.begin(rootless_call_of(Collective::kAllToAll, o, "naive"));
  t.wait_for_all();
  for (int root = 0; root < t.size(); ++root) {
    Operands turn = o;
    turn.output = o.out() + root * o.bytes();
    scatter_from(root, o.in(), turn, t);
  }
}

void naive_barrier(const Operands&, Transport& t) {
  const char token = 1;
  char theirs = 0, sum = 0;
  Operands o;
  o.count = 1;
  o.dtype = DType::kBool;
  t.begin(rootless_call_of(Collective::kBarrier, o, "naive"));
  t.wait_for_all();
  o.input = &token;
  o.output = &sum;
  reduce_to(0, o, t);
  broadcast_from(0, &theirs, 1, t);
}

}  // namespace dai::hardware
