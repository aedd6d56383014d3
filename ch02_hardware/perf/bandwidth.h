// SPDX-License-Identifier: Apache-2.0
#pragma once

// What nccl-tests makes of a time (its doc/PERFORMANCE.md):
//
//   algbw = size / time                       "how fast is my data done?"
//   busbw = algbw * factor(collective, n)     "how fast does a link run?"
//
// The factor takes out what the collective itself asks for, so that busbw can
// be held against the hardware, at any number of ranks. `size` is the larger
// of send and receive buffer: count * n elements for all_gather,
// reduce_scatter, gather, scatter and all_to_all.
//
//   bus_factor(Collective::kAllReduce, 4)     // 1.5
//
// (Some tools print all_reduce's algbw as 2 size / time, or bits: their numbers
// are not these.)

#include "ch02_hardware/model/algorithm_cost.h"

namespace dai::hardware {

// all_reduce 2 (n - 1) / n; all_gather, reduce_scatter, all_to_all, gather and
// scatter (n - 1) / n; broadcast, reduce and sendrecv 1.
double bus_factor(Collective what, int ranks);

struct Bandwidth {
  double algbw_gb_per_s = 0;  // 10^9 bytes
  double busbw_gb_per_s = 0;
};
Bandwidth bandwidth(Collective what, double size_bytes, double seconds,
                    int ranks);

}  // namespace dai::hardware
