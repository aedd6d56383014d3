// SPDX-License-Identifier: Apache-2.0
#pragma once

// What ch02_network_perf does: latency and bandwidth by size between two ranks,
// then latency and bandwidth of all pairs, an alpha and a beta for each, and
// the link that stands out.

#include <cstdint>
#include <string>

#include "common/torch/process_group.h"

namespace dai {
class App;
class OptionSet;
}  // namespace dai

namespace dai::hardware {

struct NetworkAppOptions {
  DistributedOptions distributed;
  std::string medium = "auto";
  std::string max_bytes = "4M";
  double effort = 0.2;
  double most_seconds = 0.5;
  std::int64_t window = 64;
  std::string pair_bytes = "64K";
};
void declare(OptionSet& set, NetworkAppOptions& options);

// Needs two ranks (UsageError). Checks that every byte was what was sent.
void run_network_perf(App& app, const NetworkAppOptions& options);

}  // namespace dai::hardware
