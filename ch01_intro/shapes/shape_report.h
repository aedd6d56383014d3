// SPDX-License-Identifier: Apache-2.0
#pragma once

// The advisor's tables, and the promise that holds for every model and GPU:
// advice never lowers the efficiency by tiles and waves.
//
//   fmt::print("{}", advice_table(advise(question, gpu)));

#include <string>
#include <vector>

#include "ch01_intro/shapes/cpu_rule.h"
#include "ch01_intro/shapes/published_rows.h"
#include "ch01_intro/shapes/shape_advice.h"

namespace dai::intro {

// dimension | now | advice | why | predicted gain
std::string advice_table(const ShapeAdvice& advice);
// Each product of a forward pass: tile, tiles, waves and both efficiencies,
// as asked and as advised.
std::string matmul_table(const ShapeQuestion& now, const ShapeQuestion& advised,
                         const GpuModel& gpu);
std::string published_table(const std::vector<PublishedRow>& rows);
// The rate at each multiple, the rule of each axis, and each pair.
std::string rule_table(const CpuRuleMeasurement& measurement,
                       const RuleVerdict& verdict);
nlohmann::ordered_json to_json(const ShapeAdvice& advice);

// The most that advice costs over all named decoders and GPUs, 1, 2, 3 and 8
// ranks: efficiency now - advised where that is positive, else 0.
double largest_loss_by_advice();

}  // namespace dai::intro
