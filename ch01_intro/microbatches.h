// SPDX-License-Identifier: Apache-2.0
#pragma once

// Who computes which microbatch of a step: rank r of W takes the ids
// [r * M / W, (r + 1) * M / W) of M. It is the only formula of the data's way
// in which ranks occur; what a microbatch holds is settled by its id alone.
//
//   const MicrobatchRange mine = microbatches_of_rank(12, rank, ranks);
//   for (std::int64_t k = 0; k < mine.count; ++k) compute(mine.first + k);
//
// Torch-free.

#include <cstdint>

namespace dai::intro {

struct MicrobatchRange {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

// Throws UsageError that names both numbers when `ranks` does not divide
// `microbatches`.
MicrobatchRange microbatches_of_rank(std::int64_t microbatches, int rank,
                                     int ranks);

}  // namespace dai::intro
