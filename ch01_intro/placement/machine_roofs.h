// SPDX-License-Identifier: Apache-2.0
#pragma once

// A machine's roofs, measured: the achievable peak of each dtype, the
// bandwidth of each memory level, exponentials a second, the cost of a call.
//
//   LayerMeasurement m;
//   measure_roofs({.device = at::kCPU}, m);   // fills all but the layers
//
// A roof is the best that was seen. The bandwidth of a cache is the best of
// reading and of a triad at a quarter, a half and three quarters of its size,
// and what needs more than that is fed by the next level; of memory at four
// times the last cache. On CUDA there is one level, HBM, and
// exponentials are left out: nothing here runs out of a GPU's registers.

#include <c10/core/Device.h>

#include <cstdint>

#include "ch01_intro/placement/placed_layers.h"

namespace dai::intro {

struct RoofOptions {
  at::Device device = at::kCPU;
  MatmulSearch search;             // for each dtype
  double bandwidth_seconds = 0.2;  // for each size
  std::int64_t memory_bytes = 0;   // 0: four times the last cache, 256 MiB
                                   // or more
  std::uint64_t seed = 1234;
};

void measure_roofs(const RoofOptions& options, LayerMeasurement& into);

}  // namespace dai::intro
