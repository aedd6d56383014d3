// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/shapes/cpu_rule.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <stdexcept>

#include "common/strict_json.h"

namespace dai::intro {
namespace {

// Of each multiple, the middle one of its sizes. A size counts by its fastest
// round: what interrupts a product only makes it slower.
std::vector<double> rates_along(const CpuRuleMeasurement& measurement,
                                RuleAxis axis) {
  std::vector<double> rates;
  for (const std::int64_t multiple : kRuleMultiples) {
    std::vector<double> of_sizes;
    for (const RuleSample& sample : measurement.samples) {
      if (sample.axis != axis || sample.multiple != multiple) continue;
      const double fastest =
          sample.seconds.empty()
              ? 0
              : *std::min_element(sample.seconds.begin(), sample.seconds.end());
      if (sample.seconds.size() < 3 || !(fastest > 0)) {
        throw std::invalid_argument(fmt::format(
            "CPU rule: {} took {} s in {} rounds, at least 3 are needed",
            sample.shape.to_string(), fastest, sample.seconds.size()));
      }
      of_sizes.push_back(sample.shape.flops() / fastest);
    }
    if (of_sizes.size() < 3) {
      throw std::invalid_argument(
          fmt::format("CPU rule: {} odd multiples of {} along {}, at least 3",
                      of_sizes.size(), multiple, to_string(axis)));
    }
    rates.push_back(median(of_sizes));
  }
  return rates;
}

nlohmann::ordered_json to_json(const MatmulShape& shape) {
  return {shape.m, shape.n, shape.k};
}

nlohmann::ordered_json nanoseconds(const std::vector<double>& seconds) {
  auto list = nlohmann::ordered_json::array();
  for (const double s : seconds) list.push_back(std::llround(s * 1e9));
  return list;
}

std::vector<double> seconds_of(const nlohmann::json& object, const char* key,
                               const std::string& where) {
  std::vector<double> seconds;
  for (const std::int64_t ns : get_counts(object, key, where)) {
    seconds.push_back(static_cast<double>(ns) / 1e9);
  }
  return seconds;
}

MatmulShape shape_of(const nlohmann::json& object, const char* key,
                     const std::string& where) {
  const auto sizes = get_counts(object, key, where);
  if (sizes.size() != 3) refuse(where, "{} is not [m, n, k]", key);
  return {sizes[0], sizes[1], sizes[2]};
}

RuleAxis axis_of(const nlohmann::json& object, const std::string& where) {
  const std::string name = get_string(object, "axis", where);
  for (const RuleAxis axis : kRuleAxes) {
    if (name == to_string(axis)) return axis;
  }
  refuse(where, "axis {}, known are m, n and k", printable(name));
}

const nlohmann::json& list_in(const nlohmann::json& object, const char* key,
                              const std::string& where) {
  if (!object[key].is_array()) refuse(where, "{} is no list", key);
  return object[key];
}

}  // namespace

const char* to_string(RuleAxis axis) {
  return axis == RuleAxis::kRows          ? "m"
         : axis == RuleAxis::kFeaturesOut ? "n"
                                          : "k";
}

std::int64_t& size_along(MatmulShape& shape, RuleAxis axis) {
  return axis == RuleAxis::kRows          ? shape.m
         : axis == RuleAxis::kFeaturesOut ? shape.n
                                          : shape.k;
}

std::vector<std::int64_t> odd_multiples(std::int64_t multiple,
                                        std::int64_t base, int count) {
  std::vector<std::int64_t> sizes;
  // 128 apart, so that those of 64 differ as well.
  for (int i = 0; i < count; ++i) {
    const std::int64_t target = base + 128 * (i - count / 2);
    sizes.push_back((target / multiple | 1) * multiple);
  }
  return sizes;
}

MatmulShape padded_to(const MatmulShape& plain, const CpuRule& rule) {
  MatmulShape padded = plain;
  std::int64_t& size = size_along(padded, rule.axis);
  size = (size + rule.multiple - 1) / rule.multiple * rule.multiple;
  return padded;
}

CpuRule derive_rule(const CpuRuleMeasurement& measurement, RuleAxis axis) {
  CpuRule rule{.axis = axis, .relative_rate = rates_along(measurement, axis)};
  std::vector<double>& rates = rule.relative_rate;
  const double fastest = *std::max_element(rates.begin(), rates.end());
  for (double& rate : rates) rate /= fastest;
  // Down from the fastest, as long as less costs nothing.
  auto at = std::max_element(rates.begin(), rates.end()) - rates.begin();
  while (at > 0 && rates[at - 1] >= 1 - kRuleGain) --at;
  rule.multiple = kRuleMultiples[at];
  return rule;
}

RuleVerdict judge_cpu_rule(const CpuRuleMeasurement& measurement) {
  RuleVerdict verdict;
  for (const RuleAxis axis : kRuleAxes) {
    verdict.rules.push_back(derive_rule(measurement, axis));
  }
  for (const RulePair& pair : measurement.pairs) {
    const CpuRule& rule = verdict.rules[static_cast<std::size_t>(pair.axis)];
    verdict.off_rule += !(padded_to(pair.plain, rule) == pair.padded);
    const PairedRatio ratio =
        paired_ratio(pair.padded_seconds, pair.plain_seconds);
    if (!ratio.is_result()) {
      throw std::invalid_argument(
          fmt::format("CPU rule: {} pairs of {}, at least 7", ratio.samples,
                      pair.plain.to_string()));
    }
    verdict.worst_slowdown =
        std::max(verdict.worst_slowdown, 1 / ratio.low - 1);
    verdict.ratios.push_back(ratio);
  }
  return verdict;
}

nlohmann::ordered_json to_json(const CpuRuleMeasurement& measurement) {
  auto samples = nlohmann::ordered_json::array();
  for (const RuleSample& sample : measurement.samples) {
    samples.push_back({{"axis", to_string(sample.axis)},
                       {"multiple", sample.multiple},
                       {"shape", to_json(sample.shape)},
                       {"ns", nanoseconds(sample.seconds)}});
  }
  auto pairs = nlohmann::ordered_json::array();
  for (const RulePair& pair : measurement.pairs) {
    pairs.push_back({{"axis", to_string(pair.axis)},
                     {"plain", to_json(pair.plain)},
                     {"padded", to_json(pair.padded)},
                     {"plain_ns", nanoseconds(pair.plain_seconds)},
                     {"padded_ns", nanoseconds(pair.padded_seconds)}});
  }
  return {{"dtype", measurement.dtype},
          {"threads", measurement.threads},
          {"samples", std::move(samples)},
          {"pairs", std::move(pairs)}};
}

CpuRuleMeasurement cpu_rule_from_json(const nlohmann::json& json,
                                      const std::string& where) {
  want_keys(json, {"dtype", "threads", "samples", "pairs"}, where);
  CpuRuleMeasurement measurement{
      .dtype = get_string(json, "dtype", where),
      .threads = static_cast<int>(get_count(json, "threads", where))};
  for (const auto& item : list_in(json, "samples", where)) {
    want_keys(item, {"axis", "multiple", "shape", "ns"}, where);
    measurement.samples.push_back(
        {.axis = axis_of(item, where),
         .multiple = get_count(item, "multiple", where),
         .shape = shape_of(item, "shape", where),
         .seconds = seconds_of(item, "ns", where)});
  }
  for (const auto& item : list_in(json, "pairs", where)) {
    want_keys(item, {"axis", "plain", "padded", "plain_ns", "padded_ns"},
              where);
    measurement.pairs.push_back(
        {.axis = axis_of(item, where),
         .plain = shape_of(item, "plain", where),
         .padded = shape_of(item, "padded", where),
         .plain_seconds = seconds_of(item, "plain_ns", where),
         .padded_seconds = seconds_of(item, "padded_ns", where)});
  }
  return measurement;
}

}  // namespace dai::intro
