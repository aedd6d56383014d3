// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/shapes/cpu_rule_measured.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>

#include "ch01_intro/roofline/matmul_peak.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

MatmulShape shape_with(const CpuRuleOptions& options, RuleAxis axis,
                       std::int64_t size) {
  MatmulShape shape{options.other, options.other, options.other};
  size_along(shape, axis) = size;
  return shape;
}

double once(MatmulPool& pool, const MatmulShape& shape) {
  return pool.timed(shape, 0, 1).front();
}

double fastest(MatmulPool& pool, const MatmulShape& shape, int calls) {
  const std::vector<double> times = pool.timed(shape, 0, calls);
  return *std::min_element(times.begin(), times.end());
}

void time_samples(MatmulPool& pool, const CpuRuleOptions& options,
                  CpuRuleMeasurement& measurement) {
  for (const RuleAxis axis : kRuleAxes) {
    for (const std::int64_t multiple : kRuleMultiples) {
      for (const std::int64_t size :
           odd_multiples(multiple, options.base, options.sizes)) {
        measurement.samples.push_back(
            {.axis = axis,
             .multiple = multiple,
             .shape = shape_with(options, axis, size)});
      }
    }
  }
  std::vector<RuleSample*> order;
  for (RuleSample& sample : measurement.samples) order.push_back(&sample);
  for (int round = 0; round < options.rounds; ++round) {
    for (RuleSample* sample : order) {
      sample->seconds.push_back(fastest(pool, sample->shape, options.calls));
    }
    std::reverse(order.begin(), order.end());
  }
}

void time_pairs(MatmulPool& pool, const CpuRuleOptions& options,
                CpuRuleMeasurement& measurement) {
  for (const RuleAxis axis : kRuleAxes) {
    const CpuRule rule = derive_rule(measurement, axis);
    if (rule.multiple == 1) continue;          // nothing breaks it
    std::vector<std::int64_t> breaking = {1};  // an odd size
    // and one that half of the rule divides
    if (rule.multiple > 2) breaking.push_back(rule.multiple / 2);
    for (const std::int64_t multiple : breaking) {
      RulePair pair{
          .axis = axis,
          .plain = shape_with(
              options, axis, odd_multiples(multiple, options.base, 1).front())};
      pair.padded = padded_to(pair.plain, rule);
      for (int i = 0; i < options.pairs; ++i) {
        // Plain, padded, plain, padded, ...: whatever slows the machine for
        // longer than a call meets both.
        double plain = once(pool, pair.plain), padded = once(pool, pair.padded);
        for (int call = 1; call < options.calls; ++call) {
          plain = std::min(plain, once(pool, pair.plain));
          padded = std::min(padded, once(pool, pair.padded));
        }
        pair.plain_seconds.push_back(plain);
        pair.padded_seconds.push_back(padded);
      }
      measurement.pairs.push_back(std::move(pair));
    }
  }
}

}  // namespace

CpuRuleMeasurement measure_cpu_rule(const CpuRuleOptions& options) {
  const std::int64_t largest = options.base + 128 * (options.sizes / 2 + 1);
  MatmulPool pool(at::kCPU, options.dtype,
                  std::max(largest, options.other) * options.other,
                  options.seed);
  CpuRuleMeasurement measurement{.dtype = dtype_name(options.dtype),
                                 .threads = at::get_num_threads()};
  time_samples(pool, options, measurement);
  time_pairs(pool, options, measurement);
  return measurement;
}

at::ScalarType dtype_named(const std::string& name) {
  if (name == "fp32") return at::kFloat;
  if (name == "bf16") return at::kBFloat16;
  throw UsageError(fmt::format("dtype {}: accepted are fp32 and bf16", name));
}

std::string dtype_name(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? "bf16" : "fp32";
}

}  // namespace dai::intro
