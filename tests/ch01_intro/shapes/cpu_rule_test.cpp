// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/shapes/cpu_rule.h"

#include <gmock/gmock.h>

#include <numeric>
#include <stdexcept>

#include "ch01_intro/recorded/recorded.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

// A CPU whose rate along every axis is `rate(multiple)`, and which is twice
// as slow in every second round.
template <class Rate>
CpuRuleMeasurement machine(const Rate& rate) {
  CpuRuleMeasurement measurement{.dtype = "fp32"};
  const auto seconds = [&](const MatmulShape& shape, double speed, int round) {
    return shape.flops() / speed / 1e9 * (round % 2 == 0 ? 1 : 2);
  };
  for (const RuleAxis axis : kRuleAxes) {
    for (const std::int64_t multiple : kRuleMultiples) {
      for (const std::int64_t size : odd_multiples(multiple, 1024, 3)) {
        RuleSample sample{
            .axis = axis, .multiple = multiple, .shape = {512, 512, 512}};
        size_along(sample.shape, axis) = size;
        for (int round = 0; round < 7; ++round) {
          sample.seconds.push_back(
              seconds(sample.shape, rate(multiple), round));
        }
        measurement.samples.push_back(sample);
      }
    }
    const CpuRule rule = derive_rule(measurement, axis);
    RulePair pair{.axis = axis, .plain = {512, 512, 512}};
    size_along(pair.plain, axis) = 1001;
    pair.padded = padded_to(pair.plain, rule);
    for (int i = 0; i < 9; ++i) {
      pair.plain_seconds.push_back(seconds(pair.plain, rate(1), i));
      pair.padded_seconds.push_back(
          seconds(pair.padded, rate(rule.multiple), i));
    }
    measurement.pairs.push_back(pair);
  }
  return measurement;
}

CpuRuleMeasurement likes_fours() {
  return machine([](std::int64_t m) {
    return m == 1 ? 80.0 : m == 2 ? 90.0 : m == 4 ? 98.0 : 100.0;
  });
}

TEST(CpuRule, IsTheSmallestMultipleBeyondWhichNothingGains) {
  for (const CpuRule& rule : judge_cpu_rule(likes_fours()).rules) {
    EXPECT_EQ(rule.multiple, 4);
    EXPECT_NEAR(rule.relative_rate.front(), 0.8, 1e-12);
    EXPECT_EQ(rule.relative_rate.back(), 1);
  }
}

TEST(CpuRule, ACpuWithoutPreferenceHasNoRule) {
  const auto indifferent = machine([](std::int64_t) { return 50.0; });
  EXPECT_EQ(derive_rule(indifferent, RuleAxis::kRows).multiple, 1);
  // 2 % are noise, not a rule; and a larger multiple may even lose.
  const auto nearly =
      machine([](std::int64_t m) { return m == 1 ? 98.0 : 100.0; });
  EXPECT_EQ(derive_rule(nearly, RuleAxis::kRows).multiple, 1);
  const auto falling =
      machine([](std::int64_t m) { return m == 8 ? 100.0 : 90.0; });
  EXPECT_EQ(derive_rule(falling, RuleAxis::kFeaturesIn).multiple, 8);
}

TEST(CpuRule, HoldsWherePaddedSizesAreNotSlower) {
  const RuleVerdict verdict = judge_cpu_rule(likes_fours());
  EXPECT_EQ(verdict.off_rule, 0);
  EXPECT_EQ(verdict.worst_slowdown, 0);
  for (const PairedRatio& ratio : verdict.ratios) {
    EXPECT_NEAR(ratio.ratio, 98.0 / 80 * 1001 / 1004, 1e-9);
  }
}

TEST(CpuRule, FailsWherePaddingCostsTime) {
  CpuRuleMeasurement measurement = likes_fours();
  for (double& s : measurement.pairs[1].padded_seconds) s *= 1.5;
  EXPECT_GT(judge_cpu_rule(measurement).worst_slowdown, 10 * kRuleSlowdown);
}

TEST(CpuRule, PairsOfAnotherRuleAreNoticed) {
  CpuRuleMeasurement measurement = likes_fours();
  measurement.pairs[2].padded.k += 4;
  EXPECT_EQ(judge_cpu_rule(measurement).off_rule, 1);
}

TEST(CpuRule, TooLittleIsRefused) {
  CpuRuleMeasurement measurement = likes_fours();
  measurement.samples.pop_back();
  measurement.samples.pop_back();
  measurement.samples.pop_back();
  EXPECT_THROW(judge_cpu_rule(measurement), std::invalid_argument);
  measurement = likes_fours();
  measurement.samples[0].seconds.resize(2);
  EXPECT_THROW(judge_cpu_rule(measurement), std::invalid_argument);
  measurement = likes_fours();
  measurement.pairs[0].plain_seconds.resize(6);
  measurement.pairs[0].padded_seconds.resize(6);
  EXPECT_THROW(judge_cpu_rule(measurement), std::invalid_argument);
  EXPECT_THROW(derive_rule({}, RuleAxis::kRows), std::invalid_argument);
}

TEST(CpuRule, OddMultiplesAreOddDistinctAndNear) {
  for (const std::int64_t multiple : kRuleMultiples) {
    const auto sizes = odd_multiples(multiple, 1024, 5);
    ASSERT_EQ(sizes.size(), 5U);
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      EXPECT_EQ(sizes[i] % (2 * multiple), multiple);
      EXPECT_NEAR(static_cast<double>(sizes[i]), 1024, 400);
      if (i > 0) {
        EXPECT_GT(sizes[i], sizes[i - 1]);
      }
    }
  }
}

TEST(CpuRule, JsonKeepsTheVerdict) {
  const CpuRuleMeasurement measurement = likes_fours();
  const auto read = cpu_rule_from_json(
      nlohmann::json::parse(to_json(measurement).dump()), "test");
  const RuleVerdict a = judge_cpu_rule(measurement), b = judge_cpu_rule(read);
  ASSERT_EQ(read.samples.size(), measurement.samples.size());
  EXPECT_EQ(read.dtype, "fp32");
  for (std::size_t i = 0; i < a.rules.size(); ++i) {
    EXPECT_EQ(a.rules[i].multiple, b.rules[i].multiple);
    EXPECT_NEAR(a.ratios[i].ratio, b.ratios[i].ratio, 1e-6);
  }
}

TEST(CpuRule, SpoiltJsonIsNamed) {
  const auto whole = nlohmann::json::parse(to_json(likes_fours()).dump());
  EXPECT_EQ(cpu_rule_from_json(whole, "test").pairs.size(), 3U);
  nlohmann::json json = whole;
  json["samples"][0]["axis"] = "q";
  EXPECT_THROW(cpu_rule_from_json(json, "test"), UsageError);
  json = whole;
  json["samples"][0]["shape"] = {1, 2};
  EXPECT_THROW(cpu_rule_from_json(json, "test"), UsageError);
  json = whole;
  json["pairs"] = 3;
  EXPECT_THROW(cpu_rule_from_json(json, "test"), UsageError);
}

TEST(CpuRule, TheCommittedMeasurementHolds) {
  const std::string path = recorded_path("cpu_rule.json");
  const Recorded recorded = read_recorded(path, "ch01_shape_advisor");
  ASSERT_EQ(recorded.data.size(), 2U);  // fp32 and bf16
  for (const auto& item : recorded.data) {
    const RuleVerdict verdict = judge_cpu_rule(cpu_rule_from_json(item, path));
    EXPECT_FALSE(verdict.ratios.empty());
    EXPECT_EQ(verdict.off_rule, 0);
    EXPECT_LE(verdict.worst_slowdown, kRuleSlowdown);
  }
}

}  // namespace
}  // namespace dai::intro
