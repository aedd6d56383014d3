// SPDX-License-Identifier: Apache-2.0
#pragma once

// nccl-tests' measurement and its table: for each size, one collective timed
// out of place and in place, then run once more on known data and checked.
//
//   PerfOptions options{.what = Collective::kAllReduce};
//   measure_collective(target, options, [](const PerfRow& row) {
//     fmt::print("{}\n", perf_line(options, row));
//   });
//
// Options are called as theirs: -b -e -f -i -n -w -c -o -d -r. Columns: size in
// bytes, count, type, redop, root, then time (us, mean over ranks), algbw,
// busbw (GB/s) and #wrong, twice. "N/A": the target has no such form.

#include <functional>
#include <optional>
#include <string>

#include "ch02_hardware/perf/collective_target.h"

namespace dai::hardware {

struct PerfOptions {
  Collective what = Collective::kAllReduce;
  std::size_t min_bytes = 1024;                   // -b
  std::size_t max_bytes = std::size_t{32} << 20;  // -e
  int factor = 2;                                 // -f; 0: steps instead
  std::size_t step_bytes = std::size_t{1} << 20;  // -i
  int rounds = 20;                                // -n
  int warm_up = 5;                                // -w
  bool check = true;                              // -c
  DType dtype = DType::kFloat32;                  // -d
  ReduceOp op = ReduceOp::kSum;                   // -o
  int root = 0;                                   // -r
  std::uint64_t seed = 1234;
};

// One of the two halves of a row.
struct PerfResult {
  CollectiveTime time;
  double algbw_gb_per_s = 0, busbw_gb_per_s = 0;
  std::optional<std::size_t> wrong;  // elements over all ranks; none: unchecked
};

struct PerfRow {
  double size_bytes = 0;  // what was really measured
  std::size_t count = 0;
  std::optional<PerfResult> out_of_place, in_place;
};

// "512", "8K", "64M", "1G" (powers of 1024). Throws UsageError.
std::size_t parse_bytes(const std::string& text);

// Throws UsageError for options that make no sense: a range that is empty, a
// root that is no rank, a reduction that the type has not.
void check_options(const PerfOptions& options, int ranks);

// Collective; rows come in the order of sizes, on every rank alike.
void measure_collective(CollectiveTarget& target, const PerfOptions& options,
                        const std::function<void(const PerfRow&)>& on_row);

std::string perf_heading();
std::string perf_line(const PerfOptions& options, const PerfRow& row);

}  // namespace dai::hardware
