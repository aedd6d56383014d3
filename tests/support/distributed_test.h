// SPDX-License-Identifier: Apache-2.0
#pragma once

// For GoogleTest binaries that run on several ranks, under dai_launch on Gloo
// (dai_test(... RANKS 1 2 3 4)) or under mpirun on MPI (MPI_RANKS). Linking
// dai::distributed_test brings main(): it joins the ranks once, runs the tests
// on all of them in the same order and closes the group in order.
//
//   TEST(AllReduce, Sums) {
//     dai::ProcessGroup& group = dai::testing::group();
//     ...
//   }
//
// Rank 0 prints GoogleTest's usual output, the others only what fails. A test
// whose ranks part ways (an ASSERT that leaves early on one) ends by the
// group's time-out of 20 s.

#include "common/launch_context.h"
#include "common/torch/process_group.h"

namespace dai::testing {

ProcessGroup& group();
const LaunchContext& launch();

// At namespace scope: `const bool kNeedsCuda = dai::testing::need_cuda();`.
// Without a CUDA device all ranks then end with 77 before any test. The group
// itself stays on Gloo. Ranks may share a GPU: each gets its own NCCL_HOSTID.
bool need_cuda();

}  // namespace dai::testing
