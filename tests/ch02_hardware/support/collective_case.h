// SPDX-License-Identifier: Apache-2.0
#pragma once

// One collective on known data (ch02_hardware/perf/known_data.h), run and
// checked on one rank.
//
//   CollectiveCase one{{.what = Collective::kAllReduce, .count = 1000}};
//   run_and_check(one, algorithm, transport);    // throws what is wrong

#include "ch02_hardware/collectives/algorithms.h"
#include "ch02_hardware/perf/known_data.h"

namespace dai::hardware::testing {

struct CollectiveCase : KnownData {
  bool in_place = false;
  // What Algorithm::runs_on() wants to know.
  std::size_t bytes() const { return count * size_of(dtype); }
};

// Runs it between guard bytes, at an odd address now and then, and compares
// every element. Throws std::runtime_error naming the first that is wrong,
// input that has changed, or a guard that has.
void run_and_check(const CollectiveCase& one, const Algorithm& algorithm,
                   Transport& transport);

}  // namespace dai::hardware::testing
