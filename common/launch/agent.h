// SPDX-License-Identifier: Apache-2.0
#pragma once

// One agent per node: it joins the rendezvous, starts its share of the ranks
// when told to, reports how they end, and stops them when told to. The order
// of a job is decided by the server alone (rendezvous_server.h); the agent
// answers messages, the ends of its ranks, and signals.
//
//   return dai::launch::run_agent(options);   // all of dai_launch
//
// Returns the exit code of the job: 0, 1, 2, 77, or 128 + N after signal N.
// Throws UsageError for what the user can mend (a --master-port in use) and
// std::exception for what the machine lacks; no rank is left then either.

#include "common/launch/options.h"

namespace dai::launch {

int run_agent(const LaunchOptions& options);

}  // namespace dai::launch
