// SPDX-License-Identifier: Apache-2.0
#pragma once

// What ch02_collective_perf does: connects what --backend, --medium and
// --algorithm ask for, measures, prints, checks.

#include "ch02_hardware/perf/perf_table.h"
#include "common/torch/process_group.h"

namespace dai {
class App;
class OptionSet;
}  // namespace dai

namespace dai::hardware {

struct PerfAppOptions {
  DistributedOptions distributed;
  std::string collective = "all_reduce";
  std::string algorithm = "auto";
  std::string medium = "auto";
  std::string via = "auto";  // direct: without c10d, backend dai alone
  std::string model_file;
  std::string min_bytes = "1K", max_bytes = "32M", step_bytes = "1M";
  std::int64_t factor = 2, rounds = 20, warm_up = 5, check = 1, root = 0;
  std::string dtype = "float32", op = "sum";
};
void declare(OptionSet& set, PerfAppOptions& options);

// Rank 0 prints a row as soon as it is there. Checks that no element was wrong;
// without -c, that there was a row.
void run_collective_perf(App& app, const PerfAppOptions& options);

}  // namespace dai::hardware
