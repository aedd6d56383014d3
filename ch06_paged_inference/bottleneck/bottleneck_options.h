// SPDX-License-Identifier: Apache-2.0
#pragma once

// The command line of ch06_inference_bottleneck, and the roofs that it asks
// for.

#include <cstdint>
#include <string>

#include "ch01_intro/roofline/roofline.h"
#include "ch06_paged_inference/generate/loaded_model.h"
#include "common/app.h"

namespace dai::paged {

struct BottleneckOptions {
  LoadedModelOptions model;
  std::int64_t context = 256, prompt = 256, repeats = 3;
  double roof_seconds = 0.2;
  std::string roofs = "measured";  // or "recorded", as smoke runs have it

  void declare(OptionSet& set);
  // Measures the machine's, unless recorded ones are asked for.
  intro::Roofline roofline(const App& app) const;
};

}  // namespace dai::paged
