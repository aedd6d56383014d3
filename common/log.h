// SPDX-License-Identifier: Apache-2.0
#pragma once

// Logs go to stderr, one line an event, each with its rank:
//
//   [rank 1/4] 14:03:07.123 info  connected to node-a:29500
//
// Results and tables belong on stdout (common/report.h). Use spdlog's free
// functions after init_log(): spdlog::info("connected to {}:{}", host, port).
// The level comes from DAI_LOG (trace, debug, info, warn, error), default
// "warn", so that an example's output is its lesson and nothing else.

#include <spdlog/spdlog.h>

namespace dai {

// Throws UsageError for an unknown level in DAI_LOG.
void init_log(int rank, int world_size);

}  // namespace dai
