// SPDX-License-Identifier: Apache-2.0
#pragma once

// What ch02_collective_explorer does: explains one algorithm step by step, or
// measures all of a collective and holds the model against the measurement.

#include "common/torch/process_group.h"

namespace dai {
class App;
class OptionSet;
}  // namespace dai

namespace dai::hardware {

struct ExplorerOptions {
  DistributedOptions distributed;
  std::string collective = "all_reduce";
  std::string explain;     // an algorithm; empty: measure
  std::int64_t ranks = 4;  // of the explanation
  std::int64_t count = 0;  // elements of the explanation; 0: as many as ranks
  std::string svg;         // a file for the explanation's picture
  std::string medium = "auto";
  std::string max_bytes = "64M";
  std::int64_t rounds = 200;
  std::int64_t repeats = 5;
  bool naive = false;
  std::string fit;           // a file for the fitted model
  bool keep_slower = false;  // of what the file says and what was measured
};
void declare(OptionSet& set, ExplorerOptions& options);

// Of an explanation it checks that the results were right, that it took the
// steps that the paper says, and that no rank sent more than it says; of a
// measurement, that all was measured, and at the full size that the model's
// error on sizes that it had not seen stays below a third.
void run_explorer(App& app, const ExplorerOptions& options);

}  // namespace dai::hardware
