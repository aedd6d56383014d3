// SPDX-License-Identifier: Apache-2.0
#pragma once

// One step of the model, as the scheduler hands it to a model runner: plain
// numbers, so that it can be sent to other ranks or written down.

#include <cstdint>
#include <vector>

#include "ch06_paged_inference/engine/block_table.h"

namespace dai::paged {

// Some tokens of one sequence that follow each other.
struct PlanRow {
  std::int64_t sequence = 0;
  std::int64_t first = 0, count = 0;   // in StepPlan::tokens
  std::int64_t position = 0;           // of its first token
  std::int64_t table = 0, blocks = 0;  // in StepPlan::block_tables
  bool draws = false;                  // the last token's logits are wanted

  std::int64_t context() const { return position + count; }  // with itself
};

struct StepPlan {
  std::int64_t step = 0;
  std::int64_t block_size = 16;
  // Before anything else, one after the other.
  std::vector<BlockCopy> copies;
  std::vector<PlanRow> rows;
  std::vector<std::int32_t> tokens;  // [tokens]; of all rows, in their order
  std::vector<BlockId> block_tables;

  bool empty() const { return rows.empty(); }
  std::int64_t draws() const {
    std::int64_t n = 0;
    for (const PlanRow& row : rows) n += row.draws ? 1 : 0;
    return n;
  }
  // Takes a row out, with its tokens.
  void drop(std::size_t row);
  // Equal schedules have equal hashes: rows, positions, blocks and copies.
  std::uint64_t hash(std::uint64_t before) const;
};

}  // namespace dai::paged
