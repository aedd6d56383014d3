// SPDX-License-Identifier: Apache-2.0
#pragma once

// The first thing to run on a new cluster: does every collective deliver the
// numbers that it has to? Each is run on values that a plain loop can
// foretell. They are small integers held in floats: their sums are exact in
// any order, so the only right error is 0, at any number of ranks, on any
// backend.
//
//   const auto rows = check_collectives(group, /*elements=*/1000);
//   fmt::print("{}worst: {}\n", collective_table(rows), worst_error(rows));
//
// Also checked: the two gradient means of this chapter (naive_ddp and
// naive_canonical_sum), with a toy backward whose gradients are known.
//
// Every rank calls it and gets the same rows: the error is the largest of all
// ranks. +infinity stands for NaN. `elements` is what each rank contributes.

#include <cstdint>
#include <string>
#include <vector>

namespace dai {
class ProcessGroup;
}

namespace dai::intro {

struct CollectiveRow {
  std::string name;
  std::int64_t elements = 0;
  double max_error = 0;
  std::vector<double> errors = {};  // by rank: whose result is wrong
};

std::vector<CollectiveRow> check_collectives(ProcessGroup& group,
                                             std::int64_t elements);

std::string collective_table(const std::vector<CollectiveRow>& rows);
double worst_error(const std::vector<CollectiveRow>& rows);

}  // namespace dai::intro
