// SPDX-License-Identifier: Apache-2.0
#pragma once

// Every rank reads the text for itself, since nothing need be sent then. What
// must not happen is that one node has another edition of it: the ranks would
// train on a mixture that no single rank can repeat. So they compare a hash.
//
//   require_same_tokens(group, tokens);

#include <cstdint>
#include <span>

namespace dai {
class ProcessGroup;
}

namespace dai::intro {

// Changes when a token changes, moves, comes or goes.
std::uint64_t hash_of_tokens(std::span<const std::int32_t> tokens);

// Collective. Throws UsageError on every rank when one has other tokens than
// rank 0, naming the first such rank, both numbers of tokens and both hashes.
void require_same_tokens(ProcessGroup& group,
                         std::span<const std::int32_t> tokens);

}  // namespace dai::intro
