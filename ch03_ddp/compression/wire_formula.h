// SPDX-License-Identifier: Apache-2.0
#pragma once

// What an exchange costs on paper: bytes of a step for a rank, the mean of all
// ranks. For n ranks and a bucket of N float32 numbers
//
//   all_reduce   4 N in an all_reduce
//   fp16, bf16   2 N in an all_reduce
//   int8         n b to all_to_all, b to all_gather; b = int8_bytes of a slice,
//                N / n numbers filled up to whole blocks
//   powersgd     4 powersgd_numbers() of each parameter, in all_reduces
//   canonical    4 s N to all_to_all, 4 N / n to all_gather, slices filled up;
//                s subtrees of the microbatches' tree that a rank ships
//
// of which a rank puts on the wire
//
//   all_reduce   2 (n - 1) / n of its bytes      (ring: reduce_scatter, gather)
//   all_to_all   (n - 1) / n                     (its own slice stays)
//   all_gather   n - 1 times                     (its slice, to everybody)
//
// Independent of the exchanges' code: the app holds it against what the kernel
// has counted (ch03_ddp/compare/tcp_meter.h).

#include <cstdint>
#include <string>
#include <vector>

#include "ch03_ddp/ladder/make_sync.h"

namespace dai::ddp {

struct WireCost {
  double handed = 0;  // to collectives
  double sent = 0;    // to other ranks
};

// buckets: shapes of the parameters in each. PowerSGD as from start_iter on.
using BucketShapes = std::vector<std::vector<std::vector<std::int64_t>>>;
WireCost wire_cost(const SyncOptions& options, const BucketShapes& buckets,
                   std::int64_t microbatches, int ranks);

}  // namespace dai::ddp
