// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/collectives/recursive_doubling.h"

#include <algorithm>

#include "ch02_hardware/collectives/power_of_two.h"
#include "ch02_hardware/reduction/combine.h"

namespace dai::hardware {
namespace {

constexpr std::size_t kChunk = 262144;

}  // namespace

void recursive_doubling_all_reduce(const Operands& o, Transport& t) {
  check_reduction(o.dtype, o.op);
  t.begin(rootless_call_of(Collective::kAllReduce, o, "recursive_doubling"));
  const PowerOfTwo team(t);
  const std::byte* const start = team.fold(o, t);
  // Chunk by chunk, so that what goes through the second room stays in the
  // cache.
  for (std::size_t at = 0; start && at < o.bytes(); at += kChunk) {
    const std::size_t bytes = std::min(kChunk, o.bytes() - at);
    // What is sent must not change before it has left, so sums alternate
    // between the output and a second room.
    std::byte* const rooms[2] = {o.out() + at, scratch(kChunk)};
    const std::byte* mine = start + at;
    for (int distance = 1; distance < team.size; distance *= 2) {
      const int peer = team.rank_of(team.index ^ distance);
      const Combine sum{o.dtype, o.op, mine,
                        /*received_first=*/peer < t.rank()};
      std::byte* const to = mine == rooms[0] ? rooms[1] : rooms[0];
      t.exchange({peer, mine, bytes}, {peer, to, bytes, &sum});
      mine = to;
    }
    copy_bytes(o.out() + at, mine, bytes);
    if (o.op == ReduceOp::kAvg) {
      divide(o.out() + at, bytes / size_of(o.dtype), o.dtype, t.size());
    }
  }
  team.unfold(o.output, o.bytes(), t);
}

// The ranks' parts lie at their place in the output from the start. A working
// rank's block of 2^k neighbours grows to 2^(k+1) in each step. With a number
// of ranks that is no power of two a part is two ranks' wide for some.
void recursive_doubling_all_gather(const Operands& o, Transport& t) {
  t.begin(rootless_call_of(Collective::kAllGather, o, "recursive_doubling"));
  t.wait_for_all();  // before the output is touched
  const std::size_t bytes = o.bytes();
  copy_bytes(o.out() + t.rank() * bytes, o.input, bytes);
  const PowerOfTwo team(t);
  // Working ranks [begin, end) hold the parts of ranks [first, last).
  const auto first_rank = [&](int index) {
    return index < team.extra ? 2 * index : index + team.extra;
  };
  if (t.rank() < 2 * team.extra) {
    if (team.index < 0)
      t.send(t.rank() + 1, o.input, bytes);
    else
      t.receive(t.rank() - 1, o.out() + (t.rank() - 1) * bytes, bytes);
  }
  if (team.index >= 0) {
    for (int width = 1; width < team.size; width *= 2) {
      const int mine = team.index / width * width;
      const int theirs = mine ^ width;
      const int peer = team.rank_of(team.index ^ width);
      const std::size_t my_first = first_rank(mine) * bytes;
      const std::size_t my_last = first_rank(mine + width) * bytes;
      const std::size_t their_first = first_rank(theirs) * bytes;
      const std::size_t their_last = first_rank(theirs + width) * bytes;
      t.exchange({peer, o.out() + my_first, my_last - my_first},
                 {peer, o.out() + their_first, their_last - their_first});
    }
  }
  team.unfold(o.output, t.size() * bytes, t);
}

void dissemination_barrier(const Operands&, Transport& t) {
  t.begin(rootless_call_of(Collective::kBarrier, {}, "dissemination"));
  const char token = 1;
  char come = 0;
  for (int distance = 1; distance < t.size(); distance *= 2) {
    t.exchange({(t.rank() + distance) % t.size(), &token, 1},
               {(t.rank() - distance + t.size()) % t.size(), &come, 1});
  }
}

}  // namespace dai::hardware
