// SPDX-License-Identifier: Apache-2.0
#pragma once

// What an algorithm costs on paper, before any machine is known: how many
// messages come one after the other, and how many times the data passes a
// rank's link.
//
//   AlgorithmCost cost = cost_of(Collective::kAllReduce, "ring", 4);
//   cost.steps      // 6       2 (n - 1)
//   cost.volume     // 1.5     2 (n - 1) / n, times the bytes
//
// Bytes are those of the whole collective: count * size for all_gather,
// reduce_scatter, gather, scatter and all_to_all, as nccl-tests counts.

#include <string>

#include "ch02_hardware/transport/transport.h"

namespace dai::hardware {

struct AlgorithmCost {
  double steps = 0;
  double volume = 0;
};

// Throws std::invalid_argument for an algorithm that it does not know.
AlgorithmCost cost_of(Collective what, const std::string& algorithm, int ranks);

// The bytes that nccl-tests calls the size of a collective, from its count.
double size_bytes(Collective what, std::size_t count, std::size_t element,
                  int ranks);

}  // namespace dai::hardware
