// SPDX-License-Identifier: Apache-2.0
#pragma once

// A sum whose bits do not depend on who computed what. The additions follow one
// binary tree over microbatch ids (drawn in ch01_intro/sync/canonical_sum.h),
// whatever the number of ranks, their share of the ids, or an element's place
// in the buffer. naive_canonical_sum() of chapter 1 gives the same bits and
// sends every microbatch to every rank; here a rank sends only the largest
// subtrees that it can add up by itself.
//
//   12 ids on 2 ranks:  rank 0 holds 0-5, ships 0-3 and 4-5
//                       rank 1 holds 6-11, ships 6-7 and 8-11
//
//   const CanonicalTree tree(CanonicalTree::even_owners(12, ranks));
//   CanonicalAccumulator mine(tree, rank, count, DType::kFloat32);
//   for (...) mine.add(id, gradient);            // in any order
//   canonical_all_reduce(tree, mine.partials(), sum, count, dtype, transport);
//
// On the wire, an all_reduce sends 2 (n - 1) / n times the buffer from each
// rank; this one (1 + s) / 2 times as much, where s is the number of subtrees
// that the rank ships: wire_factor().
//
// Sums of float32, float64, bfloat16 and float16, rounded after each addition;
// integers, for which any order would do, too.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ch02_hardware/collectives/operands.h"

namespace dai::hardware {

// The ids [first, first + 2^level) of a tree, as far as there are any.
struct Subtree {
  std::int64_t first = 0;
  int level = 0;
  friend bool operator==(const Subtree&, const Subtree&) = default;
};

class CanonicalTree {
 public:
  // owners[id] is the rank that computes microbatch `id`; at least one.
  // Throws std::invalid_argument for none, or for a negative rank.
  explicit CanonicalTree(std::vector<int> owners);
  // Rank r owns the ids [r * k, (r + 1) * k), k = microbatches / ranks: throws
  // std::invalid_argument unless that is whole.
  static std::vector<int> even_owners(std::int64_t microbatches, int ranks);

  std::int64_t microbatches() const { return std::ssize(owners_); }
  int owner(std::int64_t id) const { return owners_[id]; }
  // The largest subtrees whose ids all belong to `rank`, by first id.
  std::vector<Subtree> subtrees_of(int rank) const;
  // Bytes that `rank` sends, over those of an all_reduce.
  double wire_factor(int rank) const;

  // Calls leaf(subtree, owner) for each subtree that is shipped, and
  // add(...) where two sums meet, in the one order that is allowed: a
  // depth-first walk. Values are whatever the caller makes of them.
  template <class Value, class Leaf, class Add>
  Value walk(Leaf&& leaf, Add&& add) const {
    return walk_from<Value>(root(), leaf, add);
  }

 private:
  Subtree root() const;
  // The rank that owns all ids of it, or -1.
  int sole_owner(const Subtree& subtree) const;

  template <class Value, class Leaf, class Add>
  Value walk_from(const Subtree& subtree, Leaf& leaf, Add& add) const {
    const int owner = sole_owner(subtree);
    if (owner >= 0) return leaf(subtree, owner);
    const Subtree left{subtree.first, subtree.level - 1};
    const Subtree right{subtree.first + (std::int64_t{1} << left.level),
                        left.level};
    Value sum = walk_from<Value>(left, leaf, add);
    if (right.first >= microbatches()) return sum;
    return add(std::move(sum), walk_from<Value>(right, leaf, add));
  }

  const std::vector<int> owners_;
};

// Adds up the microbatches of one rank as they come, as far as the tree allows:
// two siblings become their parent at once. So it holds about log2 of them, not
// all.
class CanonicalAccumulator {
 public:
  CanonicalAccumulator(const CanonicalTree& tree, int rank, std::size_t count,
                       DType dtype);

  // row: [count]; copied. Throws std::logic_error for an id that is not this
  // rank's or comes twice.
  void add(std::int64_t id, const void* row);
  // By first id, as CanonicalTree::subtrees_of(). Throws std::logic_error when
  // an id has not come. Valid until the next add() or clear().
  std::vector<const void*> partials() const;
  // Forgets the sums, keeps the memory.
  void clear();
  // Rows that were ever held at once.
  std::size_t most_rows() const { return most_rows_; }

 private:
  struct Held {
    Subtree subtree;
    std::vector<std::byte> sum;
  };
  std::vector<std::byte> take_room();

  const CanonicalTree& tree_;
  const int rank_;
  const std::size_t count_;
  const DType dtype_;
  std::vector<Held> held_;
  std::vector<std::vector<std::byte>> free_;
  std::vector<bool> come_;
  std::size_t most_rows_ = 0;
};

// partials: this rank's subtrees, [count] each, by first id. output: [count],
// the sum over all microbatches, with equal bits on all ranks; may be a
// partial.
// Throws std::invalid_argument for another number of partials than
// subtrees_of() and for an owner that is no rank, PeerError where ranks differ
// on the owners.
void canonical_all_reduce(const CanonicalTree& tree,
                          std::span<const void* const> partials, void* output,
                          std::size_t count, DType dtype, Transport& transport);

}  // namespace dai::hardware
