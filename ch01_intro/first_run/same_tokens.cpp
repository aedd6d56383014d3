// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/first_run/same_tokens.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "ch01_intro/counter_random.h"
#include "common/errors.h"
#include "common/torch/process_group.h"

namespace dai::intro {

std::uint64_t hash_of_tokens(std::span<const std::int32_t> tokens) {
  std::uint64_t hash = mix64(tokens.size());
  for (const std::int32_t token : tokens) {
    hash = mix64(hash ^ static_cast<std::uint32_t>(token));
  }
  return hash;
}

void require_same_tokens(ProcessGroup& group,
                         std::span<const std::int32_t> tokens) {
  const std::vector<std::string> all = group.gather_strings(fmt::format(
      "{} tokens of hash {:016x}", tokens.size(), hash_of_tokens(tokens)));
  for (std::size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    // Rank 0 serves the store: it may leave once everybody has read there.
    group.barrier();
    throw UsageError(fmt::format(
        "rank 0 has {}, rank {} has {}: do all nodes read the same text?",
        all[0], rank, all[rank]));
  }
}

}  // namespace dai::intro
