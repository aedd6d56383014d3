// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/collectives/direct.h"

#include <algorithm>
#include <stdexcept>

#include "ch02_hardware/reduction/combine.h"

namespace dai::hardware {
namespace {

// Stays in the second-level cache between reading, adding and writing.
constexpr std::size_t kChunk = 131072;

SharedWindow& window_of(Transport& t) {
  SharedWindow* const window = t.window();
  if (!window) {
    throw std::logic_error("ranks over " + t.medium() + " share no memory");
  }
  return *window;
}
SharedWindow& reaching_window_of(Transport& t) {
  SharedWindow& window = window_of(t);
  if (!window.reaches_memory()) {
    throw std::logic_error("cross-memory attach is not allowed here");
  }
  return window;
}

// The sum over all ranks of [offset, offset + bytes) of their inputs, in the
// order of ranks, into `to`, which may be this rank's own part of it.
void add_up(const Operands& o, std::size_t offset, std::size_t bytes,
            std::byte* to, Transport& t, SharedWindow& window) {
  std::byte* const so_far = scratch(2 * kChunk);
  std::byte* const theirs = so_far + kChunk;
  const std::size_t count = bytes / size_of(o.dtype);
  const auto part = [&](int rank, std::byte* room) -> const std::byte* {
    if (rank == t.rank()) return o.in() + offset;
    window.read_input(rank, offset, room, bytes);
    return room;
  };
  const std::byte* sum = part(0, so_far);
  for (int rank = 1; rank < t.size(); ++rank) {
    std::byte* const into = rank == t.size() - 1 ? to : so_far;
    combine(into, sum, part(rank, theirs), count, o.dtype, o.op);
    sum = into;
  }
  copy_bytes(to, sum, bytes);
  if (o.op == ReduceOp::kAvg) divide(to, count, o.dtype, t.size());
}

// Calls f(offset, bytes) for the chunks of [offset, offset + bytes).
template <class F>
void in_chunks(std::size_t offset, std::size_t bytes, F&& f) {
  for (std::size_t done = 0; done < bytes; done += kChunk) {
    f(offset + done, std::min(kChunk, bytes - done));
  }
}

}  // namespace

void one_shot_all_reduce(const Operands& o, Transport& t) {
  check_reduction(o.dtype, o.op);
  SharedWindow& window = window_of(t);
  if (o.bytes() > SharedWindow::kSlotBytes) {
    throw std::logic_error("one_shot_all_reduce: larger than a slot");
  }
  copy_bytes(window.next_slot(), o.input, o.bytes());
  t.begin(rootless_call_of(Collective::kAllReduce, o, "one_shot"));
  t.wait_for_all();
  const void* sum = window.slot(0);
  for (int rank = 1; rank < t.size(); ++rank) {
    combine(o.output, sum, window.slot(rank), o.count, o.dtype, o.op);
    sum = o.output;
  }
  copy_bytes(o.output, sum, o.bytes());
  if (o.op == ReduceOp::kAvg) divide(o.output, o.count, o.dtype, t.size());
}

void two_shot_all_reduce(const Operands& o, Transport& t) {
  check_reduction(o.dtype, o.op);
  SharedWindow& window = reaching_window_of(t);
  t.begin(rootless_call_of(Collective::kAllReduce, o, "two_shot"));
  t.wait_for_all();
  // Nobody else reads or writes this part of anybody's buffer.
  const Slice mine = slice_of(o.count, o.dtype, t.rank(), t.size());
  in_chunks(mine.offset, mine.bytes, [&](std::size_t at, std::size_t bytes) {
    add_up(o, at, bytes, o.out() + at, t, window);
    for (int i = 1; i < t.size(); ++i) {
      const int peer = (t.rank() + i) % t.size();
      window.write_output(peer, at, o.out() + at, bytes);
    }
  });
  window.meet();
}

void direct_reduce_scatter(const Operands& o, Transport& t) {
  check_reduction(o.dtype, o.op);
  SharedWindow& window = reaching_window_of(t);
  t.begin(rootless_call_of(Collective::kReduceScatter, o, "direct"));
  t.wait_for_all();
  const std::size_t mine = t.rank() * o.bytes();
  in_chunks(mine, o.bytes(), [&](std::size_t at, std::size_t bytes) {
    add_up(o, at, bytes, o.out() + (at - mine), t, window);
  });
  window.meet();
}

void direct_all_gather(const Operands& o, Transport& t) {
  SharedWindow& window = reaching_window_of(t);
  t.begin(rootless_call_of(Collective::kAllGather, o, "direct"));
  t.wait_for_all();
  copy_bytes(o.out() + t.rank() * o.bytes(), o.input, o.bytes());
  for (int i = 1; i < t.size(); ++i) {
    const int peer = (t.rank() + i) % t.size();
    window.read_input(peer, 0, o.out() + peer * o.bytes(), o.bytes());
  }
  window.meet();
}

void direct_broadcast(const Operands& o, Transport& t) {
  SharedWindow& window = reaching_window_of(t);
  t.begin(call_of(Collective::kBroadcast, o, "direct"));
  t.wait_for_all();
  if (t.rank() == o.root) {
    copy_bytes(o.output, o.input, o.bytes());
  } else {
    window.read_input(o.root, 0, o.output, o.bytes());
  }
  window.meet();
}

void direct_all_to_all(const Operands& o, Transport& t) {
  SharedWindow& window = reaching_window_of(t);
  t.begin(rootless_call_of(Collective::kAllToAll, o, "direct"));
  t.wait_for_all();
  const std::size_t mine = t.rank() * o.bytes();
  copy_bytes(o.out() + mine, o.in() + mine, o.bytes());
  for (int i = 1; i < t.size(); ++i) {
    const int peer = (t.rank() + i) % t.size();
    window.read_input(peer, mine, o.out() + peer * o.bytes(), o.bytes());
  }
  window.meet();
}

}  // namespace dai::hardware
