// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/collectives/halving_doubling.h"

#include "ch02_hardware/collectives/power_of_two.h"
#include "ch02_hardware/reduction/combine.h"

namespace dai::hardware {

void halving_doubling_all_reduce(const Operands& o, Transport& t) {
  check_reduction(o.dtype, o.op);
  t.begin(rootless_call_of(Collective::kAllReduce, o, "halving_doubling"));
  const PowerOfTwo team(t);
  // Parts [begin, begin + parts) of team.size, as bytes.
  const auto range = [&](int begin, int parts) {
    const Slice first = slice_of(o.count, o.dtype, begin, team.size);
    const Slice last = slice_of(o.count, o.dtype, begin + parts - 1, team.size);
    const std::size_t bytes = last.offset + last.bytes - first.offset;
    return Slice{first.offset, bytes, bytes / size_of(o.dtype)};
  };
  if (const std::byte* so_far = team.fold(o, t)) {
    int begin = 0;  // of the parts that this rank still adds up
    for (int half = team.size / 2; half >= 1; half /= 2) {
      const int peer = team.rank_of(team.index ^ half);
      const bool upper = team.index & half;
      const Slice keep = range(begin + (upper ? half : 0), half);
      const Slice give = range(begin + (upper ? 0 : half), half);
      const Combine sum{o.dtype, o.op, so_far + keep.offset,
                        /*received_first=*/peer < t.rank()};
      t.exchange({peer, so_far + give.offset, give.bytes},
                 {peer, o.out() + keep.offset, keep.bytes, &sum});
      so_far = o.out();
      if (upper) begin += half;
    }
    if (team.size == 1) copy_bytes(o.output, so_far, o.bytes());
    if (o.op == ReduceOp::kAvg) {
      const Slice mine = range(begin, 1);
      divide(o.out() + mine.offset, mine.count, o.dtype, t.size());
    }
    for (int parts = 1; parts < team.size; parts *= 2) {
      const int peer = team.rank_of(team.index ^ parts);
      const int theirs = begin ^ parts;
      const Slice have = range(begin, parts);
      const Slice come = range(theirs, parts);
      t.exchange({peer, o.out() + have.offset, have.bytes},
                 {peer, o.out() + come.offset, come.bytes});
      if (theirs < begin) begin = theirs;
    }
  }
  team.unfold(o.output, o.bytes(), t);
}

}  // namespace dai::hardware
