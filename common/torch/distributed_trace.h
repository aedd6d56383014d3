// SPDX-License-Identifier: Apache-2.0
#pragma once

// One timeline of all ranks: their clocks compared over the group, their
// traces gathered and moved onto rank 0's clock.
//
//   group.add_observer(dai::make_trace_observer(app.trace()));
//   ...
//   app.set_merged_trace(dai::merged_trace(group, app.trace()));

#include <memory>
#include <string>

#include "common/torch/process_group.h"
#include "common/trace.h"

namespace dai {

// This rank's clock against rank 0's, by short messages between the two; the
// other ranks wait their turn. Collective.
ClockOffset clock_offset_to_rank0(ProcessGroup& group);

// Rank 0: the traces of all ranks as one file. Other ranks: an empty string.
// Collective.
std::string merged_trace(ProcessGroup& group, const Trace& trace);

// Writes a span into `trace` for every collective of the group, Reducer's
// included, from issue to completion. Both must outlive the observer.
std::shared_ptr<CollectiveObserver> make_trace_observer(Trace& trace);

}  // namespace dai
