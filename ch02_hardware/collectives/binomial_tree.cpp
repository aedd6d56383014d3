// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/collectives/binomial_tree.h"

#include <algorithm>

#include "ch02_hardware/reduction/combine.h"

namespace dai::hardware {
namespace {

// Ranks counted from the root: the root is number 0.
struct Tree {
  Tree(int root, const Transport& t)
      : root(root), n(t.size()), number((t.rank() - root + n) % n) {}
  int root, n, number;

  int rank_of(int of) const { return (of + root) % n; }
  // The distance to the parent; for the root, beyond all ranks.
  int lowest_bit() const {
    int bit = 1;
    while (bit < n && !(number & bit)) bit *= 2;
    return bit;
  }
  bool is_root() const { return number == 0; }
  int parent() const { return rank_of(number - lowest_bit()); }
  // Ranks of the subtree under `of`, which hangs at distance `bit`.
  int subtree(int of, int bit) const { return std::min(bit, n - of); }
};

// The root sends its input, and copies it when all have theirs.
void broadcast(const Tree& tree, const Operands& o, Transport& t) {
  const std::size_t bytes = o.bytes();
  if (!tree.is_root()) t.receive(tree.parent(), o.output, bytes);
  const void* const data = tree.is_root() ? o.input : o.output;
  // The largest subtree first: it has the longest way to go.
  for (int bit = tree.lowest_bit() / 2; bit >= 1; bit /= 2) {
    const int child = tree.number + bit;
    if (child < tree.n) t.send(tree.rank_of(child), data, bytes);
  }
  if (tree.is_root()) copy_bytes(o.output, o.input, bytes);
}

void reduce(const Tree& tree, const Operands& o, Transport& t) {
  // Only the root's output is the caller's to write.
  std::byte* const sum = tree.is_root() ? o.out() : scratch(o.bytes());
  const void* so_far = o.input;
  for (int bit = 1; bit < tree.lowest_bit(); bit *= 2) {
    const int child = tree.number + bit;
    if (child >= tree.n) break;
    const Combine add{o.dtype, o.op, so_far};
    t.receive(tree.rank_of(child), sum, o.bytes(), &add);
    so_far = sum;
  }
  if (!tree.is_root()) return t.send(tree.parent(), so_far, o.bytes());
  copy_bytes(sum, so_far, o.bytes());
  if (o.op == ReduceOp::kAvg) divide(sum, o.count, o.dtype, tree.n);
}

}  // namespace

void binomial_tree_broadcast(const Operands& o, Transport& t) {
  t.begin(call_of(Collective::kBroadcast, o, "binomial_tree"));
  broadcast(Tree(o.root, t), o, t);
}

void binomial_tree_reduce(const Operands& o, Transport& t) {
  check_reduction(o.dtype, o.op);
  t.begin(call_of(Collective::kReduce, o, "binomial_tree"));
  reduce(Tree(o.root, t), o, t);
}

void binomial_tree_all_reduce(const Operands& o, Transport& t) {
  check_reduction(o.dtype, o.op);
  t.begin(rootless_call_of(Collective::kAllReduce, o, "binomial_tree"));
  const Tree tree(0, t);
  reduce(tree, o, t);
  Operands sum = o;
  sum.input = o.output;
  broadcast(tree, sum, t);
}

// A rank collects the parts of its subtree behind one another, in the order of
// numbers, then sends them on as one message.
void binomial_tree_gather(const Operands& o, Transport& t) {
  t.begin(call_of(Collective::kGather, o, "binomial_tree"));
  const Tree tree(o.root, t);
  const std::size_t bytes = o.bytes();
  const int below = tree.subtree(tree.number, tree.lowest_bit());
  std::byte* const parts = scratch(below * bytes);
  copy_bytes(parts, o.input, bytes);
  for (int bit = 1; bit < tree.lowest_bit(); bit *= 2) {
    const int child = tree.number + bit;
    if (child >= tree.n) break;
    t.receive(tree.rank_of(child), parts + bit * bytes,
              tree.subtree(child, bit) * bytes);
  }
  if (!tree.is_root()) return t.send(tree.parent(), parts, below * bytes);
  for (int number = 0; number < tree.n; ++number) {
    copy_bytes(o.out() + tree.rank_of(number) * bytes, parts + number * bytes,
               bytes);
  }
}

void binomial_tree_scatter(const Operands& o, Transport& t) {
  t.begin(call_of(Collective::kScatter, o, "binomial_tree"));
  const Tree tree(o.root, t);
  const std::size_t bytes = o.bytes();
  const int below = tree.subtree(tree.number, tree.lowest_bit());
  std::byte* const parts = scratch(below * bytes);
  if (tree.is_root()) {
    for (int number = 0; number < tree.n; ++number) {
      copy_bytes(parts + number * bytes, o.in() + tree.rank_of(number) * bytes,
                 bytes);
    }
  } else {
    t.receive(tree.parent(), parts, below * bytes);
  }
  for (int bit = tree.lowest_bit() / 2; bit >= 1; bit /= 2) {
    const int child = tree.number + bit;
    if (child >= tree.n) continue;
    t.send(tree.rank_of(child), parts + bit * bytes,
           tree.subtree(child, bit) * bytes);
  }
  copy_bytes(o.output, parts, bytes);
}

}  // namespace dai::hardware
