// SPDX-License-Identifier: Apache-2.0
#pragma once

// The command line of ch01_roofline.

#include <cstdint>
#include <string>

#include "ch01_intro/placement/layer_times.h"
#include "ch01_intro/placement/machine_roofs.h"
#include "common/app.h"

namespace dai::intro {

struct RooflineAppOptions {
  std::int64_t threads = 1;
  std::string decoder = "bench-9m", device = "auto", rung = "fused";
  std::string record, recorded;
  LayerShapes shapes;
  RoofOptions roofs;
  LayerTimeOptions times;

  void declare(OptionSet& set);
  // What the words stand for: the rung's operations, the seed, the device.
  // Throws Unavailable for a device that is not there.
  void resolve(const LaunchContext& launch, std::uint64_t seed);
};

}  // namespace dai::intro
