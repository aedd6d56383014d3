// SPDX-License-Identifier: Apache-2.0
#pragma once

// The command line of ch01_shape_advisor.

#include <cstdint>
#include <string>

#include "ch01_intro/shapes/cpu_rule_measured.h"
#include "ch01_intro/shapes/shape_advice.h"
#include "common/app.h"

namespace dai::intro {

struct AdvisorAppOptions {
  std::int64_t threads = 1;
  std::string gpu = "H100", model;
  std::int64_t hidden = 0, heads = 0, kv_heads = 0, ffn = 0, vocab = 0;
  std::int64_t batch = 1, sequence = 2048, tensor_parallel = 1;
  std::string dtype = "both", record, recorded;
  CpuRuleOptions rule;

  void declare(OptionSet& set);
  // The named model with the sizes that were given. UsageError: an unknown
  // model.
  ShapeQuestion question() const;
};

}  // namespace dai::intro
