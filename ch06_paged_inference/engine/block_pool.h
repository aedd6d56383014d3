// SPDX-License-Identifier: Apache-2.0
#pragma once

// All the KV blocks there are, counted: who holds how many references, and in
// which order the free ones are given out. The blocks' bytes are the model
// runner's; here a block is a number.
//
//   BlockPool pool(1024);
//   const BlockId block = *pool.allocate();   // one reference
//   pool.retain(block);                       // two: shared by two tables
//   pool.release(block); pool.release(block); // free again
//
// Free blocks form a list through the blocks themselves (as in vLLM v1), so
// that taking one out of the middle costs nothing. A block that is worth
// keeping when it becomes free (`keep`: the prefix cache knows its content)
// goes to the back, any other to the front: the front is the least useful.
// Wrong use (a release too many) throws std::logic_error: a leak is a bug.

#include <cstdint>
#include <optional>
#include <vector>

#include "ch06_paged_inference/engine/residency.h"

namespace dai::paged {

using BlockId = std::int32_t;

class BlockPool {
 public:
  explicit BlockPool(std::int64_t blocks);

  std::int64_t total() const { return std::ssize(blocks_); }
  // Not referenced by anyone, whether their content is worth keeping or not.
  std::int64_t free() const { return free_; }
  std::int64_t kept() const { return kept_; }  // those of them that are

  // The free block whose turn it is; nothing when none is left. Whoever knows
  // its content forgets it (PrefixCache::forget).
  std::optional<BlockId> allocate();
  void retain(BlockId block);
  void release(BlockId block);
  std::int32_t references(BlockId block) const { return at(block).references; }

  // Is the content worth keeping when the block becomes free?
  void set_keep(BlockId block, bool keep);

  void set_now(double seconds) { now_ = seconds; }
  const Residency& residency() const { return residency_; }
  // Free list, counters and references agree; throws std::logic_error.
  void check() const;

 private:
  struct Block {
    std::int32_t references = 0;
    bool keep = false;
    bool used = false;
    BlockId previous = -1, next = -1;  // in the free list
    double allocated = 0, freed = 0;   // when
  };
  Block& at(BlockId block) {
    return blocks_.at(static_cast<std::size_t>(block));
  }
  const Block& at(BlockId block) const {
    return blocks_.at(static_cast<std::size_t>(block));
  }
  void insert(BlockId block, bool at_front);
  void remove(BlockId block);

  std::vector<Block> blocks_;
  BlockId first_ = -1, last_ = -1;
  std::int64_t free_ = 0, kept_ = 0;
  double now_ = 0;
  Residency residency_;
};

}  // namespace dai::paged
