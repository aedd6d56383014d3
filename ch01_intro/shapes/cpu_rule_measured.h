// SPDX-License-Identifier: Apache-2.0
#pragma once

// The measurement behind a CPU's rule (cpu_rule.h), with the library's own
// product: [m, k] x [n, k]^T as a linear layer multiplies.
//
//   CpuRuleMeasurement m = measure_cpu_rule({.dtype = at::kFloat});
//   judge_cpu_rule(m);
//
// Rounds alternate in direction, every shape in each, so that drift meets all
// shapes alike. Then sizes that break the rule just found, against themselves
// padded, in alternating order. A time is the fastest of a few calls: on a
// machine with other users a single one says more about them.

#include <c10/core/ScalarType.h>

#include "ch01_intro/shapes/cpu_rule.h"

namespace dai::intro {

struct CpuRuleOptions {
  at::ScalarType dtype = at::kFloat;
  std::int64_t base = 384;   // the size whose neighbours are tried
  std::int64_t other = 512;  // the two other sizes
  int sizes = 3;             // for each multiple
  int rounds = 10;
  int pairs = 25;  // for each size that breaks the rule
  int calls = 5;   // of which the fastest is the time
  std::uint64_t seed = 1234;
};

CpuRuleMeasurement measure_cpu_rule(const CpuRuleOptions& options);

// "fp32", "bf16"; throws UsageError for another word.
at::ScalarType dtype_named(const std::string& name);
std::string dtype_name(at::ScalarType dtype);

}  // namespace dai::intro
