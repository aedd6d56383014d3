// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/shapes/cpu_rule_measured.h"

#include <gtest/gtest.h>

#include "common/errors.h"

namespace dai::intro {
namespace {

TEST(CpuRuleMeasured, TimesEveryCandidateAndItsOwnPairs) {
  const CpuRuleMeasurement measurement = measure_cpu_rule(
      {.base = 320, .other = 32, .sizes = 3, .rounds = 3, .pairs = 7});
  EXPECT_EQ(measurement.samples.size(), 3U * 7 * 3);
  const RuleVerdict verdict = judge_cpu_rule(measurement);  // is complete
  EXPECT_EQ(verdict.off_rule, 0);
  for (const RulePair& pair : measurement.pairs) {
    EXPECT_FALSE(pair.plain == pair.padded);
  }
}

TEST(CpuRuleMeasured, DtypesByName) {
  EXPECT_EQ(dtype_named("bf16"), at::kBFloat16);
  EXPECT_EQ(dtype_name(dtype_named("fp32")), "fp32");
  EXPECT_THROW(dtype_named("fp64"), UsageError);
}

}  // namespace
}  // namespace dai::intro
