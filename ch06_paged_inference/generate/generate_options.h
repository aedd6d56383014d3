// SPDX-License-Identifier: Apache-2.0
#pragma once

// The command line of ch06_generate.

#include <cstdint>
#include <string>

#include "ch06_paged_inference/generate/loaded_model.h"
#include "common/app.h"

namespace dai::paged {

struct GenerateOptions {
  LoadedModelOptions model;
  SamplingParams sampling{.temperature = 0, .max_tokens = 256};
  std::string prompt, system, stop;
  std::int64_t no_repeat = 0;

  void declare(OptionSet& set);
  // With the stop string and the processor that were asked for.
  SamplingParams chosen() const;
};

}  // namespace dai::paged
