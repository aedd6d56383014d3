// SPDX-License-Identifier: Apache-2.0
#pragma once

// Lets rank 0 work alone for minutes while the others wait, which a barrier
// cannot do: it would run into the collectives' time-out, and a longer
// time-out would also be how long a dead rank 0 goes unnoticed.
//
// Here the others wait in a broadcast that rank 0 repeats while it works. They
// sleep in it (no core is burnt beside the measurement), every beat restarts
// the time-out, and a rank 0 that dies or hangs is noticed as in any
// collective.
//
//   on_rank0_alone(group, [&](const Heartbeat& beat) {
//     for (...) { step(); beat(); }
//   });
//
// `work` calls beat() at least once within the time-out; calls that come more
// often than every 0.2 s cost nothing. What `work` throws ends rank 0 like any
// other failure; the others then report their peer gone.

#include <functional>

namespace dai {
class ProcessGroup;
}

namespace dai::intro {

using Heartbeat = std::function<void()>;

void on_rank0_alone(ProcessGroup& group,
                    const std::function<void(const Heartbeat&)>& work);

}  // namespace dai::intro
