// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which block holds the keys and values of which tokens: a full block is known
// by the chain of all tokens up to its end, so that a prompt that begins like
// an earlier one finds the blocks of what they have in common.
//
//   std::uint64_t chain = PrefixCache::root("tenant-7");
//   chain = PrefixCache::extend(chain, tokens_0_to_15);
//   if (const auto hit = cache.find(chain, tokens_0_to_15)) ... hit->block
//
// A hit is never a matter of luck: the tokens of the block are compared, and a
// reader follows the chain from its beginning, so colliding hashes are a miss.
// (vLLM, v1, hashes likewise and trusts SHA-256.)
//
// Blocks are entered when somebody begins to compute them, not when they are
// done: of N equal prompts that arrive together the first computes, the others
// share its blocks in the same step, since within a step all keys and values of
// a layer are written before any is read (model_runner.h). `filled_by` is the
// number of the step that completes the block; a reader of that step or a later
// one may use it.

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ch06_paged_inference/engine/block_pool.h"

namespace dai::paged {

using Tokens = std::span<const std::int32_t>;

class PrefixCache {
 public:
  static constexpr std::int64_t kNotPlanned =
      std::numeric_limits<std::int64_t>::max();

  explicit PrefixCache(BlockPool& pool)
      : pool_(pool), entries_(static_cast<std::size_t>(pool.total())) {}

  // Requests with another salt share nothing (a tenant's name, say).
  static std::uint64_t root(std::string_view salt);
  static std::uint64_t extend(std::uint64_t chain, Tokens tokens);

  struct Hit {
    BlockId block = -1;
    std::int64_t filled_by = 0;
  };
  std::optional<Hit> find(std::uint64_t chain, Tokens tokens) const;

  // Enters a block that somebody holds. False where the chain is taken.
  bool insert(std::uint64_t chain, Tokens tokens, BlockId block,
              std::int64_t filled_by);
  void set_filled(BlockId block, std::int64_t filled_by);
  bool knows(BlockId block) const { return entry(block).known; }
  bool is_filled(BlockId block) const {
    return entry(block).filled_by != kNotPlanned;
  }
  // Before a block's content changes, or is given up unfinished.
  void forget(BlockId block);
  void clear();  // all of it, whoever uses the blocks

  std::int64_t size() const { return std::ssize(blocks_); }
  // Every entry is in the map once, with its chain; throws std::logic_error.
  void check() const;

 private:
  struct Entry {
    bool known = false;
    std::uint64_t chain = 0;
    std::int64_t filled_by = kNotPlanned;
    std::vector<std::int32_t> tokens;
  };
  const Entry& entry(BlockId block) const {
    return entries_.at(static_cast<std::size_t>(block));
  }

  BlockPool& pool_;
  std::vector<Entry> entries_;  // [block]
  std::unordered_map<std::uint64_t, BlockId> blocks_;
};

}  // namespace dai::paged
