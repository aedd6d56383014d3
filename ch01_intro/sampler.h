// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which sample stands at which place of an epoch's shuffled order, as a pure
// function: no list of 60,000 shuffled indices, no state to save or restore,
// and no world size in the formula. Ranks differ only in *which positions* they
// ask for; the global batch is therefore the same for 1 rank and for 1,000.
//
// Promises: for fixed (seed, epoch, count) the map position -> sample is a
// bijection on [0, count). O(1) memory, a few dozen nanoseconds a call.
// Throws std::out_of_range unless position < count.
//
//   // The 4th sample of the second epoch:
//   auto sample = sample_at(/*seed=*/1234, /*epoch=*/1, /*position=*/3, 60000);
//
// A Feistel network is a permutation of 2^(2k) numbers for any round function;
// cycle-walking cuts it down to [0, count) (Black, Rogaway: Ciphers with
// arbitrary finite domains, 2002).

#include <cstdint>

namespace dai::intro {

std::uint64_t sample_at(std::uint64_t seed, std::uint64_t epoch,
                        std::uint64_t position, std::uint64_t count);

}  // namespace dai::intro
