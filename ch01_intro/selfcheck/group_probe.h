// SPDX-License-Identifier: Apache-2.0
#pragma once

// What only a formed group can tell: does every collective deliver the right
// numbers, how fast, and does every rank compute the same bits?
//
//   GroupReport report = probe_group(group, options);
//
// Every rank calls it. A collective that fails ends it; `error` then says how,
// and what was measured before stays. The figures are of all_reduce: latency
// as the median of `repeats` sums of 4 bytes, bandwidth as bus bandwidth,
// 2 (n-1)/n * bytes / time, which is comparable between numbers of ranks.

#include <cstdint>

#include "ch01_intro/selfcheck/judge.h"

namespace dai {
class ProcessGroup;
}

namespace dai::intro {

struct ProbeOptions {
  std::int64_t elements = 4096;       // floats of each checked collective
  std::int64_t bandwidth_kib = 4096;  // bytes / 1024 of the timed all_reduce
  std::int64_t repeats = 20;          // of each timed one
};

GroupReport probe_group(ProcessGroup& group, const ProbeOptions& options);

// Hashes of a matrix product, exponentials and a softmax on inputs that are
// equal everywhere (seed 1234), computed where the group's tensors live.
std::vector<std::pair<std::string, std::string>> bits_of_this_rank(
    ProcessGroup& group);

// LibTorch, and where CUDA is used its runtime and NCCL, as loaded.
std::map<std::string, std::string> library_versions();

}  // namespace dai::intro
