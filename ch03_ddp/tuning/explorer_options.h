// SPDX-License-Identifier: Apache-2.0
#pragma once

// The command line of ch03_bucket_explorer, and what its words stand for.

#include <cstdint>
#include <string>

#include "ch03_ddp/compare/compared_options.h"
#include "ch03_ddp/tuning/explore.h"

namespace dai::ddp {

struct ExplorerAppOptions {
  ComparedOptions compared;
  std::string sizes_mb;
  std::int64_t trials = 3;

  void declare(OptionSet& set);
  // What all ranks must have been told alike.
  std::string to_string(std::uint64_t seed) const;
  ExploreOptions options(std::uint64_t seed) const;  // throws UsageError
};

}  // namespace dai::ddp
