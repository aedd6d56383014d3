// SPDX-License-Identifier: Apache-2.0
#pragma once

// Any backend of a ProcessGroup as something to measure: gloo, mpi, nccl and
// dai, through the same c10d calls that a training program makes. Buffers lie
// on the group's device.

#include <vector>

#include "ch02_hardware/perf/collective_target.h"

namespace dai {
class ProcessGroup;
}

namespace dai::hardware {

// `group` outlives it. Operands point to memory from allocate().
std::unique_ptr<CollectiveTarget> c10d_target(ProcessGroup& group);

}  // namespace dai::hardware
