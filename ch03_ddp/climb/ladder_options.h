// SPDX-License-Identifier: Apache-2.0
#pragma once

// The command line of ch03_ddp_ladder, and what its words stand for.

#include <cstdint>
#include <string>

#include "ch03_ddp/climb/climb.h"
#include "ch03_ddp/compare/compared_options.h"

namespace dai::ddp {

struct LadderAppOptions {
  ComparedOptions compared;
  std::string exchange = "all_reduce";
  double bucket_mb = 25;
  double first_bucket_mb = 1;

  void declare(OptionSet& set);
  // What all ranks must have been told alike.
  std::string to_string(std::uint64_t seed) const;
  LadderOptions options(std::uint64_t seed) const;
};

}  // namespace dai::ddp
