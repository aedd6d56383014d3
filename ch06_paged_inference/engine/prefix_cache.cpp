// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/engine/prefix_cache.h"

#include <algorithm>
#include <stdexcept>

#include "ch01_intro/counter_random.h"

namespace dai::paged {

std::uint64_t PrefixCache::root(std::string_view salt) {
  return intro::stream_key(0, salt);
}

std::uint64_t PrefixCache::extend(std::uint64_t chain, Tokens tokens) {
  for (const std::int32_t token : tokens) {
    chain = intro::mix64(chain ^ static_cast<std::uint32_t>(token));
  }
  return chain;
}

std::optional<PrefixCache::Hit> PrefixCache::find(std::uint64_t chain,
                                                  Tokens tokens) const {
  const auto found = blocks_.find(chain);
  if (found == blocks_.end()) return std::nullopt;
  const Entry& e = entry(found->second);
  if (!std::equal(tokens.begin(), tokens.end(), e.tokens.begin(),
                  e.tokens.end())) {
    return std::nullopt;
  }
  return Hit{found->second, e.filled_by};
}

bool PrefixCache::insert(std::uint64_t chain, Tokens tokens, BlockId block,
                         std::int64_t filled_by) {
  if (pool_.references(block) < 1 || knows(block)) {
    throw std::logic_error("a block enters the cache once, held by somebody");
  }
  if (!blocks_.emplace(chain, block).second) return false;
  entries_[static_cast<std::size_t>(block)] = {
      true, chain, filled_by, {tokens.begin(), tokens.end()}};
  pool_.set_keep(block, filled_by != kNotPlanned);
  return true;
}

void PrefixCache::set_filled(BlockId block, std::int64_t filled_by) {
  entries_.at(static_cast<std::size_t>(block)).filled_by = filled_by;
  pool_.set_keep(block, true);
}

void PrefixCache::forget(BlockId block) {
  Entry& e = entries_.at(static_cast<std::size_t>(block));
  if (!e.known) return;
  blocks_.erase(e.chain);
  e = {};
  if (pool_.references(block) > 0) pool_.set_keep(block, false);
}

void PrefixCache::clear() {
  for (BlockId block = 0; block < pool_.total(); ++block) {
    forget(block);
    pool_.set_keep(block, false);
  }
}

void PrefixCache::check() const {
  std::int64_t known = 0;
  for (BlockId block = 0; block < pool_.total(); ++block) {
    const Entry& e = entry(block);
    if (!e.known) continue;
    ++known;
    const auto found = blocks_.find(e.chain);
    if (found == blocks_.end() || found->second != block) {
      throw std::logic_error("the prefix cache has lost a block");
    }
  }
  if (known != size()) throw std::logic_error("the prefix cache has a ghost");
}

}  // namespace dai::paged
