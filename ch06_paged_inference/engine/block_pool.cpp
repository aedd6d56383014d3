// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/engine/block_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace dai::paged {

BlockPool::BlockPool(std::int64_t blocks) {
  if (blocks < 1) throw std::invalid_argument("a pool has at least a block");
  blocks_.resize(static_cast<std::size_t>(blocks));
  for (BlockId block = 0; block < blocks; ++block) insert(block, false);
}

void BlockPool::insert(BlockId block, bool at_front) {
  Block& b = at(block);
  b.previous = at_front ? -1 : last_;
  b.next = at_front ? first_ : -1;
  (b.previous < 0 ? first_ : at(b.previous).next) = block;
  (b.next < 0 ? last_ : at(b.next).previous) = block;
  ++free_;
  kept_ += b.keep ? 1 : 0;
}

void BlockPool::remove(BlockId block) {
  Block& b = at(block);
  (b.previous < 0 ? first_ : at(b.previous).next) = b.next;
  (b.next < 0 ? last_ : at(b.next).previous) = b.previous;
  b.previous = b.next = -1;
  --free_;
  kept_ -= b.keep ? 1 : 0;
}

std::optional<BlockId> BlockPool::allocate() {
  if (first_ < 0) return std::nullopt;
  const BlockId block = first_;
  remove(block);
  Block& b = at(block);
  if (b.used) {
    residency_.lifetime.add(now_ - b.allocated);
    residency_.idle_before_evict.add(now_ - b.freed);
  }
  b = {.references = 1, .used = true, .allocated = now_};
  return block;
}

void BlockPool::retain(BlockId block) {
  Block& b = at(block);
  if (b.references == 0) {
    if (!b.keep) {
      throw std::logic_error(fmt::format("block {} is nobody's", block));
    }
    remove(block);
    residency_.reuse_gap.add(now_ - b.freed);
  }
  ++b.references;
}

void BlockPool::release(BlockId block) {
  Block& b = at(block);
  if (b.references < 1) {
    throw std::logic_error(fmt::format("block {} is released twice", block));
  }
  if (--b.references > 0) return;
  b.freed = now_;
  insert(block, /*at_front=*/!b.keep);
}

void BlockPool::set_keep(BlockId block, bool keep) {
  Block& b = at(block);
  if (b.keep == keep) return;
  const bool listed = b.references == 0;
  if (listed) remove(block);
  b.keep = keep;
  if (listed) insert(block, /*at_front=*/!keep);
}

void BlockPool::check() const {
  std::int64_t listed = 0, kept = 0;
  BlockId previous = -1;
  for (BlockId block = first_; block >= 0; block = at(block).next) {
    const Block& b = at(block);
    if (b.references != 0 || b.previous != previous || listed == total()) {
      throw std::logic_error(fmt::format("free list broken at {}", block));
    }
    ++listed;
    kept += b.keep ? 1 : 0;
    previous = block;
  }
  const auto owned =
      std::count_if(blocks_.begin(), blocks_.end(),
                    [](const Block& b) { return b.references > 0; });
  if (listed != free_ || kept != kept_ || owned + free_ != total()) {
    throw std::logic_error(
        fmt::format("{} blocks: {} owned, {} free ({} listed), {} kept ({} "
                    "listed)",
                    total(), owned, free_, listed, kept_, kept));
  }
}

}  // namespace dai::paged
