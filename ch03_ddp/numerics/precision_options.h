// SPDX-License-Identifier: Apache-2.0
#pragma once

// The command line of ch03_mixed_precision, and what its words stand for.

#include <cstdint>
#include <string>

#include "ch03_ddp/compare/compared_options.h"
#include "ch03_ddp/numerics/compare_recipes.h"

namespace dai::ddp {

struct PrecisionAppOptions {
  ComparedOptions compared;
  std::string recipes;
  std::string sync = "reducer";
  GradScalerOptions scaling;
  std::int64_t overflow_step = 0, overflow_rank = -1;
  double bucket_mb = 25;
  std::int64_t validation_windows = 240;

  void declare(OptionSet& set);
  // What all ranks must have been told alike.
  std::string to_string(std::uint64_t seed) const;
  CompareRecipesOptions options(std::uint64_t seed, int ranks) const;
};

}  // namespace dai::ddp
