// SPDX-License-Identifier: Apache-2.0
#pragma once

// The command line of ch01_profile_step.

#include <cstdint>
#include <string>

#include "ch01_intro/memory_plan/memory_plan.h"
#include "ch01_intro/profile/step_profiler.h"
#include "ch01_intro/profiled_step/decoder_step.h"
#include "common/app.h"

namespace dai::intro {

struct ProfileAppOptions {
  DecoderStepOptions decoder;
  ProfileStepOptions profile;
  std::int64_t rows = 20;
  std::string module, input_shape;  // a TorchScript file, and its inputs
  std::string device = "auto";

  void declare(OptionSet& set);
  void check() const;  // UsageError: one of module and input_shape alone
  PlanSetup memory() const;
};

}  // namespace dai::intro
