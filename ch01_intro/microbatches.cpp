// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/microbatches.h"

#include <fmt/format.h>

#include "common/errors.h"

namespace dai::intro {

MicrobatchRange microbatches_of_rank(std::int64_t microbatches, int rank,
                                     int ranks) {
  if (microbatches % ranks != 0) {
    throw UsageError(fmt::format(
        "--microbatches {} cannot be shared evenly by {} ranks; give a "
        "multiple of {}",
        microbatches, ranks, ranks));
  }
  const std::int64_t count = microbatches / ranks;
  return {rank * count, count};
}

}  // namespace dai::intro
