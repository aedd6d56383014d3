// SPDX-License-Identifier: Apache-2.0
#pragma once

// The command line of ch03_comm_hooks, and what its words stand for.

#include <cstdint>
#include <string>

#include "ch03_ddp/compare/compared_options.h"
#include "ch03_ddp/compression/compare_exchanges.h"

namespace dai::ddp {

struct HooksAppOptions {
  ComparedOptions compared;
  std::string exchanges = "all_reduce,canonical,fp16,bf16,int8,powersgd";
  PowerSgdOptions powersgd;
  bool without_feedback = false;
  double bucket_mb = 25, first_bucket_mb = 1;
  std::int64_t validation_windows = 240;

  void declare(OptionSet& set);
  // What all ranks must have been told alike.
  std::string to_string(std::uint64_t seed) const;
  CompareExchangesOptions options(std::uint64_t seed) const;
};

}  // namespace dai::ddp
