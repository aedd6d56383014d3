// SPDX-License-Identifier: Apache-2.0
#pragma once

// The roll call of a distributed run: one row a rank, told by the rank itself
// and not inferred by rank 0. Most first-day faults are visible in it: every
// rank on one host, two ranks with one device, one core for eight ranks.
//
//   app.print(who_am_i_table(group, app.launch()));

#include <string>

#include "common/launch_context.h"

namespace dai {
class ProcessGroup;
}

namespace dai::intro {

// Every rank calls it; all get the same table, and below it a warning where
// this node has more ranks than cores.
std::string who_am_i_table(ProcessGroup& group, const LaunchContext& launch);

// How many cores this process may run on (its affinity mask, which launchers
// and container limits narrow), not how many the machine has.
int usable_cores();

// Since the kernel started this process, libraries' loading included; the
// kernel's clock counts in steps of 10 ms.
double ms_since_process_start();

}  // namespace dai::intro
