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

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "ch02_hardware/collectives/operands.h"

namespace dai::hardware {

// The ids [first, first + 2^level) of a tree, as far as there are any.
struct Subtree {
  std::int64_t first = 0;
  int level = 0;
  std::int64_t width() const { return std::int64_t{1} << level; }
  // The other half of its parent.
  Subtree sibling() const { return {first ^ width(), level}; }
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

// Throw std::logic_error: for an id that is not `rank`'s or has come before
// (else it has now), and for one that never came.
void mark_come(const CanonicalTree& tree, int rank, std::vector<bool>& come,
               std::int64_t id);
[[noreturn]] void throw_missing(std::int64_t id, int rank);

// Adds up the microbatches of one rank as they come, as far as the tree allows:
// two siblings become their parent at once. So it holds about log2 of them, not
// all. What a sum is, and how two are added, is the caller's business.
template <class Value>
class SubtreeSums {
 public:
  // Keeps a reference to the tree.
  SubtreeSums(const CanonicalTree& tree, int rank)
      : tree_(&tree), rank_(rank), come_(tree.microbatches()) {}

  // add(left, right) returns the sum of two neighbours, left ids below right
  // ones. Throws std::logic_error for an id that is not this rank's or comes
  // twice.
  template <class Add>
  void add(std::int64_t id, Value value, Add&& add) {
    mark_come(*tree_, rank_, come_, id);
    Held now{{id, 0}, std::move(value)};
    most_held_ = std::max(most_held_, held_.size() + 1);
    // Goes up the tree for as long as the sibling is there, or there is none.
    while (now.subtree.width() < tree_->microbatches()) {
      const Subtree sibling = now.subtree.sibling();
      const bool is_left = now.subtree.first < sibling.first;
      if (sibling.first < tree_->microbatches()) {
        const auto found = std::find_if(
            held_.begin(), held_.end(),
            [&](const Held& held) { return held.subtree == sibling; });
        if (found == held_.end()) break;
        now.sum = is_left ? add(std::move(now.sum), std::move(found->sum))
                          : add(std::move(found->sum), std::move(now.sum));
        held_.erase(found);
      }
      now.subtree = {std::min(now.subtree.first, sibling.first),
                     now.subtree.level + 1};
    }
    held_.push_back(std::move(now));
  }

  // By first id, as CanonicalTree::subtrees_of(). Throws std::logic_error when
  // an id has not come. Valid until the next add() or clear().
  std::vector<const Value*> partials() const {
    std::vector<const Value*> sums;
    for (const Subtree& subtree : tree_->subtrees_of(rank_)) {
      // At the tree's ragged end one subtree has several names.
      const auto found =
          std::find_if(held_.begin(), held_.end(), [&](const Held& held) {
            return held.subtree.first == subtree.first &&
                   held.subtree.level >= subtree.level;
          });
      if (found == held_.end()) throw_missing(subtree.first, rank_);
      sums.push_back(&found->sum);
    }
    return sums;
  }
  // Forgets the sums, and returns what they were held in.
  std::vector<Value> clear() {
    std::vector<Value> sums;
    for (Held& held : held_) sums.push_back(std::move(held.sum));
    held_.clear();
    come_.assign(come_.size(), false);
    return sums;
  }
  // Sums that were ever held at once.
  std::size_t most_held() const { return most_held_; }

 private:
  struct Held {
    Subtree subtree;
    Value sum;
  };
  const CanonicalTree* tree_;
  int rank_;
  std::vector<Held> held_;
  std::vector<bool> come_;
  std::size_t most_held_ = 0;
};

// The same of buffers in memory, [count] each.
class CanonicalAccumulator {
 public:
  CanonicalAccumulator(const CanonicalTree& tree, int rank, std::size_t count,
                       DType dtype);

  // row: [count]; copied. Errors as SubtreeSums.
  void add(std::int64_t id, const void* row);
  std::vector<const void*> partials() const;
  // Forgets the sums, keeps the memory.
  void clear();
  std::size_t most_rows() const { return sums_.most_held(); }

 private:
  using Row = std::vector<std::byte>;
  Row take_room();

  const std::size_t count_;
  const DType dtype_;
  SubtreeSums<Row> sums_;
  std::vector<Row> free_;
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
