// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which multiples does this CPU's matrix product like? GPUs have published
// rules, a CPU's depends on its vector width, on its library and on the
// weather, so it is measured: products whose n (or k, or m) is an odd multiple
// of 1, 2, 4, ... 64, all of about the same size, timed in turns.
//
//   CpuRule rule = derive_rule(measurement, RuleAxis::kFeaturesIn);
//   rule.multiple;      // 4: larger multiples gain less than 3 %
//
// The proof is a second measurement: a size that breaks the rule against the
// same size rounded up to it, alternately. The padded product computes more
// and must not be slower.
//
//   RuleVerdict verdict = judge_cpu_rule(measurement);
//   verdict.worst_slowdown;   // the 95 % bound, at most kRuleSlowdown
//
// Torch-free: the same code judges a live measurement and a recorded one.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ch01_intro/roofline/matmul_search.h"
#include "ch01_intro/statistics/statistics.h"

namespace dai::intro {

// Of a linear layer: rows of the input, features out and in.
enum class RuleAxis { kRows, kFeaturesOut, kFeaturesIn };
inline constexpr RuleAxis kRuleAxes[] = {
    RuleAxis::kRows, RuleAxis::kFeaturesOut, RuleAxis::kFeaturesIn};
const char* to_string(RuleAxis axis);  // "m", "n", "k"
std::int64_t& size_along(MatmulShape& shape, RuleAxis axis);

// The candidates; below this gain a larger multiple is not worth asking for.
inline constexpr std::int64_t kRuleMultiples[] = {1, 2, 4, 8, 16, 32, 64};
inline constexpr double kRuleGain = 0.03;
// A padded product may be slower by this much and count as "not slower".
inline constexpr double kRuleSlowdown = 0.02;

struct RuleSample {
  RuleAxis axis{};
  std::int64_t multiple = 1;  // of shape along axis, an odd multiple
  MatmulShape shape{};
  std::vector<double> seconds{};  // of each round, its fastest call
};

struct RulePair {
  RuleAxis axis{};
  MatmulShape plain{}, padded{};
  std::vector<double> plain_seconds{}, padded_seconds{};  // taken alternately
};

struct CpuRuleMeasurement {
  std::string dtype;  // "fp32"
  int threads = 1;
  std::vector<RuleSample> samples{};
  std::vector<RulePair> pairs{};
};

struct CpuRule {
  RuleAxis axis{};
  std::int64_t multiple = 1;
  // For each of kRuleMultiples: its rate over that of the fastest.
  std::vector<double> relative_rate{};
};

struct RuleVerdict {
  std::vector<CpuRule> rules;       // one for each axis
  std::vector<PairedRatio> ratios;  // plain / padded seconds, for each pair
  double worst_slowdown = 0;        // 1 / lowest low end - 1, or 0
  std::int64_t off_rule = 0;        // pairs padded to another size
};

// Sizes near `base` that are odd multiples of `multiple`.
std::vector<std::int64_t> odd_multiples(std::int64_t multiple,
                                        std::int64_t base, int count);
// `plain` with its size along the axis rounded up to the rule.
MatmulShape padded_to(const MatmulShape& plain, const CpuRule& rule);

// Both throw std::invalid_argument for a measurement with too few samples
// (at least 3 sizes of each multiple along each axis, 3 rounds, 7 pairs) or
// with times that are not positive.
CpuRule derive_rule(const CpuRuleMeasurement& measurement, RuleAxis axis);
RuleVerdict judge_cpu_rule(const CpuRuleMeasurement& measurement);

// Seconds are kept in nanoseconds. Reading throws UsageError with `where`.
nlohmann::ordered_json to_json(const CpuRuleMeasurement& measurement);
CpuRuleMeasurement cpu_rule_from_json(const nlohmann::json& json,
                                      const std::string& where);

}  // namespace dai::intro
