// SPDX-License-Identifier: Apache-2.0
#pragma once

// The command line of ch01_three_workloads.

#include <cstdint>
#include <string>

#include "ch01_intro/memory_plan/memory_plan.h"
#include "ch01_intro/placement/machine_roofs.h"
#include "ch01_intro/workloads/three_workloads.h"
#include "common/app.h"

namespace dai::intro {

struct WorkloadsAppOptions {
  std::string model = "bench-9m", device = "auto", rung = "fused";
  std::string record, recorded;
  RoofOptions roofs;
  ThreeWorkloadsOptions workloads;

  void declare(OptionSet& set);
  PlanSetup training() const;  // UsageError: an unknown model
  // What the words stand for.
  void resolve(at::Device on, std::uint64_t seed);
};

}  // namespace dai::intro
