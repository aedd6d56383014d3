// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/placement/placed_layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "ch01_intro/statistics/statistics.h"
#include "common/report.h"

namespace dai::intro {
namespace {

std::string si(double value, const char* unit) {
  return fmt::format("{:.1f} {}", value / 1e9, unit);
}

std::string size_text(std::int64_t bytes) {
  if (bytes == 0) return "working sets of any size";
  return fmt::format("working sets up to {:.1f} MiB",
                     static_cast<double>(bytes) / (1 << 20));
}

}  // namespace

Roofline LayerMeasurement::roofline() const {
  const auto fp32 = peaks.find("fp32");
  if (fp32 == peaks.end()) {
    throw std::invalid_argument("roofline: no fp32 peak was measured");
  }
  return {.peak_flop_per_s = fp32->second.best.flop_per_s(),
          .levels = levels,
          .exponentials_per_s = exponentials_per_s,
          .call_seconds = call_seconds,
          .fresh_bytes_per_s = fresh_bytes_per_s};
}

RooflineVerdict judge_roofline(const LayerMeasurement& measurement) {
  const auto layers =
      decoder_layers(decoder_config(measurement.decoder), measurement.shapes);
  if (layers.size() != measurement.layers.size()) {
    throw std::invalid_argument(fmt::format(
        "roofline: {} layers were timed, {} has {}", measurement.layers.size(),
        measurement.decoder, layers.size()));
  }
  const Roofline roofline = measurement.roofline();
  RooflineVerdict verdict;
  std::int64_t all = 0, outside = 0;
  double seconds = 0;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const LayerTimes& times = measurement.layers[i];
    PlacedLayer placed{
        .work = layers[i].work, .count = layers[i].count, .placement = {}};
    if (times.name != placed.work.name) {
      throw std::invalid_argument(
          fmt::format("roofline: {} was timed where "
                      "{} stands",
                      times.name, placed.work.name));
    }
    placed.work.seconds = median(times.seconds);
    placed.placement = roofline.place(placed.work);
    placed.inside = placed.placement.slowdown >= 1 - kClockTolerance &&
                    placed.placement.slowdown <= kMostSlowdown;
    all += placed.count;
    outside += placed.inside ? 0 : placed.count;
    placed.time_share = static_cast<double>(placed.count) * placed.work.seconds;
    seconds += placed.time_share;
    verdict.layers.push_back(placed);
  }
  verdict.outside_share =
      static_cast<double>(outside) / static_cast<double>(all);
  for (PlacedLayer& layer : verdict.layers) {
    layer.time_share /= seconds;
    if (!layer.inside) verdict.outside_time_share += layer.time_share;
  }
  return verdict;
}

std::string roof_table(const LayerMeasurement& measurement) {
  Table table({"roof", "measured", "how"});
  for (const auto& [dtype, peak] : measurement.peaks) {
    table.add_row({"achievable peak, " + dtype,
                   si(peak.best.flop_per_s(), "GFLOP/s"),
                   fmt::format("best of {} products: {}, median {:.1f}",
                               peak.tried.size(), peak.best.shape.to_string(),
                               peak.best.median_flop_per_s() / 1e9)});
  }
  for (const MemoryLevel& level : measurement.levels) {
    table.add_row({level.name, si(level.bytes_per_s, "GB/s"),
                   size_text(level.capacity_bytes)});
  }
  if (measurement.exponentials_per_s > 0) {
    table.add_row({"exponentials", si(measurement.exponentials_per_s, "G/s"),
                   "the fastest of PyTorch's and the decoder's, out of cache"});
  }
  if (measurement.fresh_bytes_per_s > 0) {
    table.add_row({"fresh pages", si(measurement.fresh_bytes_per_s, "GB/s"),
                   "first write into a new tensor, less a second write"});
  }
  table.add_row({"calls",
                 fmt::format("{:.2f} us", measurement.call_seconds * 1e6),
                 "adding tensors of one element"});
  return table.to_string();
}

std::string layer_table(const RooflineVerdict& verdict) {
  Table table({"layer", "count", "MFLOP", "MB", "FLOP/B", "level", "bound",
               "roof us", "measured us", "of time", "x roof", "verdict"});
  for (const PlacedLayer& layer : verdict.layers) {
    const Placement& p = layer.placement;
    table.add_row(
        {layer.work.name, std::to_string(layer.count),
         fmt::format("{:.1f}", static_cast<double>(layer.work.flops) / 1e6),
         fmt::format("{:.2f}", static_cast<double>(layer.work.bytes) / 1e6),
         fmt::format("{:.2f}", p.intensity), p.level, to_string(p.bound),
         fmt::format("{:.0f}", p.roof_seconds * 1e6),
         fmt::format("{:.0f}", layer.work.seconds * 1e6),
         fmt::format("{:.1f} %", 100 * layer.time_share),
         fmt::format("{:.2f}", p.slowdown),
         layer.inside ? "inside" : "outside"});
  }
  return table.to_string();
}

nlohmann::ordered_json roofline_chart(const LayerMeasurement& measurement,
                                      const RooflineVerdict& verdict) {
  auto peaks = nlohmann::ordered_json::object();
  for (const auto& [dtype, peak] : measurement.peaks) {
    peaks[dtype] = peak.best.flop_per_s();
  }
  auto levels = nlohmann::ordered_json::object();
  for (const MemoryLevel& level : measurement.levels) {
    levels[level.name] = level.bytes_per_s;
  }
  auto points = nlohmann::ordered_json::array();
  for (const PlacedLayer& layer : verdict.layers) {
    points.push_back({{"name", layer.work.name},
                      {"intensity_flop_per_byte", layer.placement.intensity},
                      {"flop_per_s", layer.placement.flop_per_s},
                      {"roof_flop_per_s", layer.placement.roof_flop_per_s},
                      {"level", layer.placement.level},
                      {"slowdown_ratio", layer.placement.slowdown},
                      {"inside", layer.inside}});
  }
  return {{"peaks_flop_per_s", peaks},
          {"levels_bytes_per_s", levels},
          {"points", points}};
}

}  // namespace dai::intro
