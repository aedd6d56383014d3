// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/engine/block_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace dai::paged {

KvBlocks::KvBlocks(std::int64_t blocks, std::int64_t block_size,
                   bool prefix_caching)
    : block_size_(block_size),
      prefix_caching_(prefix_caching),
      pool_(blocks),
      cache_(pool_) {}

BlockTable KvBlocks::empty_table(std::string_view salt) const {
  BlockTable table;
  table.root = PrefixCache::root(salt);
  table.publishes = prefix_caching_;
  return table;
}

KvBlocks::Found KvBlocks::find_prefix(const BlockTable& table, Tokens tokens,
                                      std::int64_t step) const {
  Found found;
  if (!table.publishes || table.published() != std::ssize(table.blocks)) {
    return found;
  }
  std::uint64_t chain = table.chain();
  for (std::int64_t b = table.published();
       (b + 1) * block_size_ <= std::ssize(tokens); ++b) {
    const Tokens part = block_tokens(tokens, b);
    chain = PrefixCache::extend(chain, part);
    const auto hit = cache_.find(chain, part);
    if (!hit) break;
    if (hit->filled_by > step) {
      found.pending = true;
      break;
    }
    found.blocks.push_back(hit->block);
    found.chains.push_back(chain);
    if (pool_.references(hit->block) == 0) ++found.idle;
  }
  return found;
}

void KvBlocks::share_prefix(BlockTable& table, Tokens tokens,
                            std::int64_t step) {
  const Found found = find_prefix(table, tokens, step);
  for (const BlockId block : found.blocks) {
    pool_.retain(block);
    table.blocks.push_back(block);
  }
  table.chains.insert(table.chains.end(), found.chains.begin(),
                      found.chains.end());
  counters_.shared += std::ssize(found.blocks);
}

BlockId KvBlocks::take() {
  const BlockId block = *pool_.allocate();
  if (cache_.knows(block)) ++counters_.evicted;
  cache_.forget(block);
  return block;
}

bool KvBlocks::grow(BlockTable& table, std::int64_t first, std::int64_t end,
                    std::vector<BlockCopy>& copies) {
  const std::int64_t have = std::ssize(table.blocks);
  const std::int64_t written = first / block_size_;  // the first block written
  // Shared, or known as it is: content that is not only this table's.
  const auto is_others = [&](BlockId block) {
    return pool_.references(block) > 1 ||
           (cache_.knows(block) && cache_.is_filled(block));
  };
  const bool copy = written < have &&
                    is_others(table.blocks[static_cast<std::size_t>(written)]);
  const std::int64_t fresh = blocks_for(end) - have;
  if (fresh + (copy ? 1 : 0) > pool_.free()) return false;
  if (copy) {
    BlockId& block = table.blocks[static_cast<std::size_t>(written)];
    const BlockId to = take();
    copies.push_back({block, to});
    pool_.release(block);
    block = to;
    ++counters_.copied;
    if (written < table.published()) {
      table.chains.resize(static_cast<std::size_t>(written));
    }
  }
  for (std::int64_t i = 0; i < fresh; ++i) table.blocks.push_back(take());
  return true;
}

void KvBlocks::publish(BlockTable& table, Tokens tokens, std::int64_t planned,
                       std::int64_t step) {
  for (std::int64_t b = table.published();
       table.publishes && b < std::ssize(table.blocks) &&
       (b + 1) * block_size_ <= std::ssize(tokens);
       ++b) {
    const Tokens part = block_tokens(tokens, b);
    const std::uint64_t chain = PrefixCache::extend(table.chain(), part);
    BlockId& block = table.blocks[static_cast<std::size_t>(b)];
    const bool full = (b + 1) * block_size_ <= planned;
    const auto known = cache_.find(chain, part);
    if (known && known->block == block) {  // entered when it was begun
      if (!full) return;
      if (!cache_.is_filled(block)) cache_.set_filled(block, step);
    } else if (known) {
      if (!full || known->filled_by > step) return;
      pool_.retain(known->block);
      pool_.release(block);
      block = known->block;
      ++counters_.deduplicated;
    } else {
      // What is only begun must not be another's beginning as well.
      if (!full && pool_.references(block) > 1) return;
      const auto filled_by = full ? step : PrefixCache::kNotPlanned;
      if (!cache_.insert(chain, part, block, filled_by) || !full) return;
    }
    table.chains.push_back(chain);
  }
}

BlockTable KvBlocks::fork(const BlockTable& table, std::int64_t positions) {
  BlockTable copy = table;
  copy.blocks.resize(static_cast<std::size_t>(blocks_for(positions)));
  copy.chains.resize(static_cast<std::size_t>(
      std::min(copy.published(), positions / block_size_)));
  for (const BlockId block : copy.blocks) pool_.retain(block);
  return copy;
}

void KvBlocks::release(BlockTable& table) {
  // The tail first: what is shared least is given out anew first.
  for (auto block = table.blocks.rbegin(); block != table.blocks.rend();
       ++block) {
    if (pool_.references(*block) == 1 && cache_.knows(*block) &&
        !cache_.is_filled(*block)) {
      cache_.forget(*block);
    }
    pool_.release(*block);
  }
  table.blocks.clear();
  table.chains.clear();
}

void KvBlocks::check(const std::vector<const BlockTable*>& tables) const {
  std::vector<std::int32_t> entries(static_cast<std::size_t>(pool_.total()));
  for (const BlockTable* table : tables) {
    for (const BlockId block : table->blocks) {
      ++entries[static_cast<std::size_t>(block)];
    }
  }
  for (BlockId block = 0; block < pool_.total(); ++block) {
    if (entries[static_cast<std::size_t>(block)] != pool_.references(block)) {
      throw std::logic_error(fmt::format(
          "block {} has {} references and {} table entries", block,
          pool_.references(block), entries[static_cast<std::size_t>(block)]));
    }
  }
  pool_.check();
  cache_.check();
}

}  // namespace dai::paged
