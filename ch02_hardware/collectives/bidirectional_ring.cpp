// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/collectives/bidirectional_ring.h"

#include <array>

#include "ch02_hardware/reduction/combine.h"

namespace dai::hardware {
namespace {

// One of the two: ring.h's steps with `direction` +1 or -1, on `count` elements
// that begin `offset` bytes into the buffer.
struct HalfRing {
  const Operands& o;
  int rank, n, direction;
  std::size_t offset, count;

  int to() const { return (rank + direction + n) % n; }
  int from() const { return (rank - direction + n) % n; }
  // The part that `steps_back` ranks before this one own.
  Slice part(int steps_back) const {
    const int index = ((rank - direction * steps_back) % n + n) % n;
    Slice slice = slice_of(count, o.dtype, index, n);
    slice.offset += offset;
    return slice;
  }
};

}  // namespace

void bidirectional_ring_all_reduce(const Operands& o, Transport& t) {
  check_reduction(o.dtype, o.op);
  t.begin(rootless_call_of(Collective::kAllReduce, o, "bidirectional_ring"));
  const int n = t.size();
  if (n == 1) return copy_bytes(o.output, o.input, o.bytes());
  const Slice first = slice_of(o.count, o.dtype, 0, 2);
  const Slice second = slice_of(o.count, o.dtype, 1, 2);
  const std::array<HalfRing, 2> rings = {
      HalfRing{o, t.rank(), n, +1, first.offset, first.count},
      HalfRing{o, t.rank(), n, -1, second.offset, second.count}};

  // With two ranks both rings go to the same peer; its messages keep their
  // order, so one exchange after the other is still right.
  const auto exchange = [&](const std::array<Outgoing, 2>& out,
                            const std::array<Incoming, 2>& in) {
    if (n > 2) return t.exchange(out, in);
    t.exchange(out[0], in[0]);
    t.exchange(out[1], in[1]);
  };
  const std::byte* from = o.in();
  for (int step = 0; step < n - 1; ++step) {
    std::array<Combine, 2> sums;
    std::array<Outgoing, 2> out;
    std::array<Incoming, 2> in;
    for (int i = 0; i < 2; ++i) {
      const Slice send = rings[i].part(1 + step);
      const Slice add = rings[i].part(2 + step);
      sums[i] = {o.dtype, o.op, o.in() + add.offset};
      out[i] = {rings[i].to(), from + send.offset, send.bytes};
      in[i] = {rings[i].from(), o.out() + add.offset, add.bytes, &sums[i]};
    }
    exchange(out, in);
    from = o.out();
  }
  if (o.op == ReduceOp::kAvg) {
    for (const HalfRing& ring : rings) {
      const Slice mine = ring.part(0);
      divide(o.out() + mine.offset, mine.count, o.dtype, n);
    }
  }
  for (int step = 0; step < n - 1; ++step) {
    std::array<Outgoing, 2> out;
    std::array<Incoming, 2> in;
    for (int i = 0; i < 2; ++i) {
      const Slice send = rings[i].part(step);
      const Slice come = rings[i].part(1 + step);
      out[i] = {rings[i].to(), o.out() + send.offset, send.bytes};
      in[i] = {rings[i].from(), o.out() + come.offset, come.bytes};
    }
    exchange(out, in);
  }
}

}  // namespace dai::hardware
