// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/engine/step_plan.h"

#include <cstddef>

#include "ch01_intro/counter_random.h"

namespace dai::paged {

void StepPlan::drop(std::size_t row) {
  const PlanRow gone = rows[row];
  rows.erase(rows.begin() + static_cast<std::ptrdiff_t>(row));
  tokens.erase(tokens.begin() + gone.first,
               tokens.begin() + gone.first + gone.count);
  for (PlanRow& other : rows) {
    if (other.first > gone.first) other.first -= gone.count;
  }
}

std::uint64_t StepPlan::hash(std::uint64_t before) const {
  std::uint64_t hash = before;
  const auto mix = [&](std::int64_t value) {
    hash = intro::mix64(hash ^ static_cast<std::uint64_t>(value));
  };
  mix(step);
  for (const BlockCopy& copy : copies) mix(copy.from), mix(copy.to);
  for (const PlanRow& row : rows) {
    mix(row.sequence), mix(row.position), mix(row.count), mix(row.blocks);
  }
  for (const BlockId block : block_tables) mix(block);
  return hash;
}

}  // namespace dai::paged
