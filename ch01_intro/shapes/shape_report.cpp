// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/shapes/shape_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "common/report.h"

namespace dai::intro {
namespace {

std::string percent(double share) {
  return fmt::format("{:.1f}", 100 * share);
}

std::string gain(const Advice& row) {
  if (row.must) return "runs at all";
  if (!row.changes) return "";
  return row.predicted_gain < 0.0005
             ? "by alignment"
             : fmt::format("{:+.1f} %", 100 * row.predicted_gain);
}

}  // namespace

std::string advice_table(const ShapeAdvice& advice) {
  Table table({"dimension", "now", "advice", "why", "predicted gain"});
  for (const Advice& row : advice.rows) {
    table.add_row({row.dimension, row.now, row.changes ? row.advised : "keep",
                   row.why, gain(row)});
  }
  return table.to_string();
}

std::string matmul_table(const ShapeQuestion& now, const ShapeQuestion& advised,
                         const GpuModel& gpu) {
  Table table({"product", "m x n x k", "tile", "tiles", "waves", "tile %",
               "wave %", "advised n", "tile %", "wave %"});
  const auto before = forward_matmuls(now), after = forward_matmuls(advised);
  for (std::size_t i = 0; i < before.size(); ++i) {
    const Quantization a = quantize(before[i], gpu);
    const Quantization b = quantize(after[i], gpu);
    table.add_row(
        {before[i].name,
         fmt::format("{} x {} x {}", before[i].m, before[i].n, before[i].k),
         fmt::format("{} x {}", a.tile.m, a.tile.n), std::to_string(a.tiles),
         std::to_string(a.waves), percent(a.tile_efficiency),
         percent(a.wave_efficiency), std::to_string(after[i].n),
         percent(b.tile_efficiency), percent(b.wave_efficiency)});
  }
  return table.to_string();
}

std::string published_table(const std::vector<PublishedRow>& rows) {
  Table table({"source", "what", "published", "ours"});
  for (const PublishedRow& row : rows) {
    table.add_row({row.source, row.what, std::to_string(row.published),
                   std::to_string(row.ours)});
  }
  return table.to_string();
}

std::string rule_table(const CpuRuleMeasurement& measurement,
                       const RuleVerdict& verdict) {
  std::vector<std::string> header = {"size", "rule"};
  for (const std::int64_t multiple : kRuleMultiples) {
    header.push_back(fmt::format("odd x {}", multiple));
  }
  Table rates(header);
  for (const CpuRule& rule : verdict.rules) {
    std::vector<std::string> row = {
        to_string(rule.axis),
        rule.multiple == 1 ? "any" : fmt::format("x {}", rule.multiple)};
    for (const double rate : rule.relative_rate) row.push_back(percent(rate));
    rates.add_row(row);
  }
  std::string text = rates.to_string();
  if (measurement.pairs.empty()) {
    return text + "no size breaks a rule here: nothing to pad or to compare\n";
  }
  Table pairs({"plain", "padded", "times as fast", "95 %", "pairs"});
  for (std::size_t i = 0; i < measurement.pairs.size(); ++i) {
    const PairedRatio& ratio = verdict.ratios[i];
    pairs.add_row({measurement.pairs[i].plain.to_string(),
                   measurement.pairs[i].padded.to_string(),
                   fmt::format("{:.3f}", ratio.ratio),
                   fmt::format("{:.3f} to {:.3f}", ratio.low, ratio.high),
                   std::to_string(ratio.samples)});
  }
  return text + "\n" + pairs.to_string();
}

nlohmann::ordered_json to_json(const ShapeAdvice& advice) {
  auto rows = nlohmann::ordered_json::array();
  for (const Advice& row : advice.rows) {
    rows.push_back({{"dimension", row.dimension},
                    {"now", row.now},
                    {"advice", row.advised},
                    {"why", row.why},
                    {"predicted_gain", row.predicted_gain}});
  }
  return rows;
}

double largest_loss_by_advice() {
  double loss = 0;
  for (const std::string& name : decoder_config_names()) {
    for (const GpuModel& gpu : gpus()) {
      for (const std::int64_t ranks : {1, 2, 3, 8}) {
        for (const std::int64_t bytes : {1, 2, 4}) {
          const ShapeAdvice advice = advise({.model = decoder_config(name),
                                             .batch = 3,
                                             .sequence = 1000,
                                             .tensor_parallel = ranks,
                                             .element_bytes = bytes},
                                            gpu);
          loss =
              std::max(loss, advice.efficiency_now - advice.efficiency_advised);
        }
      }
    }
  }
  return loss;
}

}  // namespace dai::intro
