// SPDX-License-Identifier: Apache-2.0
#pragma once

// The preflight: before a long training, on all of its ranks, each stage that
// the training will need, in an order in which each stage's failure still can
// be told by the stages before it.
//
//   SelfcheckResult result = run_selfcheck(app.launch(), options, print);
//   app.check("ranks that failed ping", result.failed("ping"), 0);
//
//   resolve, bind         on each rank by itself
//   arrive                over a store that rank 0 serves, as the training will
//   ping, clock           over sockets of our own, between all pairs
//   versions ... numa     compared on rank 0
//   collectives, determinism   in a process group of its own store, formed
//                         only when all that it needs was found well
//
// A rank that does not come or falls silent is named and not waited for again.
// A rank that cannot meet rank 0 tells by itself what it knows. Each wait ends
// after options.distributed.timeout_s; a watchdog ends this process, with a
// line, when a store that stopped answering holds it longer.

#include <functional>

#include "ch01_intro/selfcheck/group_probe.h"
#include "ch01_intro/selfcheck/selfcheck_report.h"
#include "common/torch/process_group.h"

namespace dai::intro {

struct SelfcheckOptions {
  DistributedOptions distributed;
  SelfcheckLimits limits;
  std::int64_t pings = 20;      // round trips a pair
  std::int64_t bulk_kib = 256;  // of the bandwidth figure of a pair
  ProbeOptions probe;
};

// Every rank calls it, before any other use of torch. `tell` is called where
// somebody has to speak (rank 0, or a rank that is alone), before the others
// are let go: a launcher ends all ranks when the first one has failed.
// Throws UsageError for an interface or device flag that cannot be meant.
SelfcheckResult run_selfcheck(
    const LaunchContext& launch, const SelfcheckOptions& options,
    const std::function<void(const SelfcheckResult&)>& tell);

}  // namespace dai::intro
