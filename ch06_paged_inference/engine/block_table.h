// SPDX-License-Identifier: Apache-2.0
#pragma once

// Where the keys and values of one sequence lie: position p in slot p % B of
// its block p / B (PagedAttention, arXiv:2309.06180). And all that happens to
// such tables: growth, sharing, copy-on-write, publication, release.
//
//   KvBlocks blocks(1024, /*block_size=*/16, /*prefix_caching=*/true);
//   blocks.share_prefix(table, tokens, step);     // what is there already
//   blocks.grow(table, 0, 40, copies);            // slots for 40 positions
//   blocks.publish(table, tokens, 40, step);      // others may share them
//   blocks.release(table);
//
// Tokens are computed once and stored once: share_prefix() also takes blocks
// that somebody else completes in this very step, and a block that turns out
// to be there already, because two sequences generated the same, is given up
// for the one that is known.

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "ch06_paged_inference/engine/block_pool.h"
#include "ch06_paged_inference/engine/prefix_cache.h"

namespace dai::paged {

struct BlockTable {
  std::vector<BlockId> blocks;
  // The first blocks, which the cache knows: the chain up to the end of each.
  std::vector<std::uint64_t> chains;
  std::uint64_t root = 0;  // the chain before the first
  bool publishes = true;

  std::int64_t published() const { return std::ssize(chains); }
  std::uint64_t chain() const { return chains.empty() ? root : chains.back(); }
};

struct BlockCopy {
  BlockId from = 0, to = 0;
};

class KvBlocks {
 public:
  KvBlocks(std::int64_t blocks, std::int64_t block_size, bool prefix_caching);

  std::int64_t block_size() const { return block_size_; }
  std::int64_t blocks_for(std::int64_t positions) const {
    return (positions + block_size_ - 1) / block_size_;
  }
  BlockTable empty_table(std::string_view salt) const;

  struct Found {
    std::vector<BlockId> blocks;  // in a row, from the table's end on
    std::vector<std::uint64_t> chains;
    std::int64_t idle = 0;  // of them, those that nobody uses at present
    bool pending = false;   // and the next is being computed by another
  };
  // The full blocks of `tokens` that are there for a step, behind those that
  // the table has.
  Found find_prefix(const BlockTable& table, Tokens tokens,
                    std::int64_t step) const;
  // Takes them. Only where the table ends with a published block.
  void share_prefix(BlockTable& table, Tokens tokens, std::int64_t step);

  // Slots for positions [first, end), where the table has those before first.
  // False, and nothing changed, where the pool has not enough. A last block
  // that is shared or published is copied before it is written.
  bool grow(BlockTable& table, std::int64_t first, std::int64_t end,
            std::vector<BlockCopy>& copies);

  // Makes the blocks known whose tokens are, where positions below `planned`
  // are computed by the end of `step`.
  void publish(BlockTable& table, Tokens tokens, std::int64_t planned,
               std::int64_t step);

  // Another table for the first `positions` of the same tokens.
  BlockTable fork(const BlockTable& table, std::int64_t positions);
  void release(BlockTable& table);

  BlockPool& pool() { return pool_; }
  const BlockPool& pool() const { return pool_; }
  PrefixCache& cache() { return cache_; }

  // What there is to count: sharing, hits, copies, evictions.
  struct Counters {
    std::int64_t shared = 0, deduplicated = 0, copied = 0, evicted = 0;
  };
  const Counters& counters() const { return counters_; }
  // References are table entries, block by block; the pool and the cache are
  // whole. Throws std::logic_error.
  void check(const std::vector<const BlockTable*>& tables) const;

 private:
  Tokens block_tokens(Tokens tokens, std::int64_t block) const {
    return tokens.subspan(static_cast<std::size_t>(block * block_size_),
                          static_cast<std::size_t>(block_size_));
  }
  BlockId take();

  std::int64_t block_size_;
  bool prefix_caching_;
  BlockPool pool_;
  PrefixCache cache_;
  Counters counters_;
};

}  // namespace dai::paged
