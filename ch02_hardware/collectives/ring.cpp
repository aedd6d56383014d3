// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/collectives/ring.h"

#include "ch02_hardware/reduction/combine.h"

namespace dai::hardware {
namespace {

struct Ring {
  explicit Ring(Transport& t)
      : n(t.size()), left((t.rank() + n - 1) % n), right((t.rank() + 1) % n) {}
  int n, left, right;
  int part(int index) const { return (index % n + n) % n; }
};

}  // namespace

void naive_ring_all_reduce(const Operands& o, Transport& t) {
  check_reduction(o.dtype, o.op);
  t.begin(rootless_call_of(Collective::kAllReduce, o, "naive_ring"));
  const Ring ring(t);
  const auto part = [&](int index) {
    return slice_of(o.count, o.dtype, ring.part(index), ring.n);
  };
  t.wait_for_all();  // before the output is touched
  copy_bytes(o.output, o.input, o.bytes());
  std::byte* const come = scratch(o.bytes() / ring.n + 8);
  for (int step = 0; step < ring.n - 1; ++step) {
    const Slice send = part(t.rank() - 1 - step);
    const Slice add = part(t.rank() - 2 - step);
    t.exchange({ring.right, o.out() + send.offset, send.bytes},
               {ring.left, come, add.bytes});
    combine(o.out() + add.offset, o.out() + add.offset, come, add.count,
            o.dtype, o.op);
  }
  const Slice mine = part(t.rank());
  if (o.op == ReduceOp::kAvg) {
    divide(o.out() + mine.offset, mine.count, o.dtype, ring.n);
  }
  for (int step = 0; step < ring.n - 1; ++step) {
    const Slice send = part(t.rank() - step);
    const Slice come_here = part(t.rank() - 1 - step);
    t.exchange({ring.right, o.out() + send.offset, send.bytes},
               {ring.left, o.out() + come_here.offset, come_here.bytes});
  }
}

void ring_all_reduce(const Operands& o, Transport& t) {
  check_reduction(o.dtype, o.op);
  t.begin(rootless_call_of(Collective::kAllReduce, o, "ring"));
  const Ring ring(t);
  const auto part = [&](int index) {
    return slice_of(o.count, o.dtype, ring.part(index), ring.n);
  };
  if (ring.n == 1) return copy_bytes(o.output, o.input, o.bytes());
  // The part that leaves first is sent from the input; what arrives is added
  // to the input's part and lands in the output: nothing is copied first.
  const std::byte* from = o.in();
  for (int step = 0; step < ring.n - 1; ++step) {
    const Slice send = part(t.rank() - 1 - step);
    const Slice add = part(t.rank() - 2 - step);
    const Combine sum{o.dtype, o.op, o.in() + add.offset};
    t.exchange({ring.right, from + send.offset, send.bytes},
               {ring.left, o.out() + add.offset, add.bytes, &sum});
    from = o.out();
  }
  const Slice mine = part(t.rank());
  if (o.op == ReduceOp::kAvg) {
    divide(o.out() + mine.offset, mine.count, o.dtype, ring.n);
  }
  for (int step = 0; step < ring.n - 1; ++step) {
    const Slice send = part(t.rank() - step);
    const Slice come = part(t.rank() - 1 - step);
    t.exchange({ring.right, o.out() + send.offset, send.bytes},
               {ring.left, o.out() + come.offset, come.bytes});
  }
}

// The first half. The partial sums of a rank's steps need room of their own:
// the output holds one part only. They alternate between two.
void ring_reduce_scatter(const Operands& o, Transport& t) {
  check_reduction(o.dtype, o.op);
  t.begin(rootless_call_of(Collective::kReduceScatter, o, "ring"));
  const Ring ring(t);
  const std::size_t bytes = o.bytes();
  const auto in = [&](int index) { return o.in() + ring.part(index) * bytes; };
  if (ring.n == 1) return copy_bytes(o.output, o.input, bytes);
  std::byte* const rooms[2] = {scratch(2 * bytes), scratch(2 * bytes) + bytes};
  const std::byte* sum_so_far = in(t.rank() - 1);
  for (int step = 0; step < ring.n - 1; ++step) {
    const bool last = step == ring.n - 2;
    std::byte* const to = last ? o.out() : rooms[step % 2];
    const Combine sum{o.dtype, o.op, in(t.rank() - 2 - step)};
    t.exchange({ring.right, sum_so_far, bytes}, {ring.left, to, bytes, &sum});
    sum_so_far = to;
  }
  if (o.op == ReduceOp::kAvg) divide(o.output, o.count, o.dtype, ring.n);
}

// The second half.
void ring_all_gather(const Operands& o, Transport& t) {
  t.begin(rootless_call_of(Collective::kAllGather, o, "ring"));
  const Ring ring(t);
  const std::size_t bytes = o.bytes();
  const auto out = [&](int index) {
    return o.out() + ring.part(index) * bytes;
  };
  // The own part is sent from the input, and copied while nobody waits for it.
  const std::byte* part = o.in();
  for (int step = 0; step < ring.n - 1; ++step) {
    std::byte* const come = out(t.rank() - 1 - step);
    t.exchange({ring.right, part, bytes}, {ring.left, come, bytes});
    part = come;
  }
  copy_bytes(out(t.rank()), o.input, bytes);
}

}  // namespace dai::hardware
