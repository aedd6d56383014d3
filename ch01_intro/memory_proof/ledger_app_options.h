// SPDX-License-Identifier: Apache-2.0
#pragma once

// The command line of ch01_memory_ledger.

#include <cstdint>
#include <string>
#include <vector>

#include "ch01_intro/memory_plan/memory_plan.h"
#include "common/app.h"

namespace dai::intro {

struct LedgerAppOptions {
  std::string model = "bench-9m";
  std::int64_t batch = 8, seq = 128, steps = 3;
  std::string rung = "both", precision = "fp32", device = "auto";
  std::string module, input_shape;  // a TorchScript file, and its inputs

  void declare(OptionSet& set);
  // UsageError: a module without inputs, inputs without a module, a module on
  // CUDA.
  void check() const;

  std::vector<Rung> rungs() const;
  PlanSetup setup(Rung rung) const;  // UsageError as PlanSetup::check()
};

}  // namespace dai::intro
