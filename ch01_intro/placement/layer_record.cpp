// SPDX-License-Identifier: Apache-2.0

// A layer measurement as JSON, in whole nanoseconds and bytes: rates are
// worked out of times again, so that a file cannot contradict itself.

#include <cmath>

#include "ch01_intro/placement/placed_layers.h"
#include "common/strict_json.h"

namespace dai::intro {
namespace {

std::int64_t ns(double seconds) {
  return std::llround(seconds * 1e9);
}

double seconds(std::int64_t ns) {
  return static_cast<double>(ns) / 1e9;
}

nlohmann::ordered_json trial(const MatmulTrial& t) {
  return {t.shape.m,
          t.shape.n,
          t.shape.k,
          ns(t.best_seconds),
          ns(t.median_seconds),
          t.repetitions,
          t.refined ? 1 : 0};
}

MatmulTrial trial_from(const nlohmann::json& json, const std::string& where) {
  const nlohmann::json whole = {{"trial", json}};
  const auto v = get_counts(whole, "trial", where);
  if (v.size() != 7) refuse(where, "a trial has {} numbers, not 7", v.size());
  return {.shape = {v[0], v[1], v[2]},
          .best_seconds = seconds(v[3]),
          .median_seconds = seconds(v[4]),
          .repetitions = static_cast<int>(v[5]),
          .refined = v[6] != 0};
}

const nlohmann::json& list_in(const nlohmann::json& object, const char* key,
                              const std::string& where) {
  if (!object[key].is_array()) refuse(where, "{} is no list", key);
  return object[key];
}

}  // namespace

nlohmann::ordered_json to_json(const LayerMeasurement& m) {
  auto peaks = nlohmann::ordered_json::array();
  for (const auto& [dtype, peak] : m.peaks) {
    auto tried = nlohmann::ordered_json::array();
    for (const MatmulTrial& t : peak.tried) tried.push_back(trial(t));
    peaks.push_back({{"dtype", dtype},
                     {"best", trial(peak.best)},
                     {"skipped", peak.skipped},
                     {"m_n_k_best_ns_median_ns_repetitions_refined", tried}});
  }
  auto levels = nlohmann::ordered_json::array();
  for (const MemoryLevel& level : m.levels) {
    levels.push_back({{"name", level.name},
                      {"capacity_bytes", level.capacity_bytes},
                      {"bytes_per_s", std::llround(level.bytes_per_s)}});
  }
  auto layers = nlohmann::ordered_json::array();
  for (const LayerTimes& layer : m.layers) {
    auto times = nlohmann::ordered_json::array();
    for (const double s : layer.seconds) times.push_back(ns(s));
    layers.push_back({{"name", layer.name}, {"ns", times}});
  }
  return {{"device", m.device},
          {"threads", m.threads},
          {"decoder", m.decoder},
          {"ops", m.shapes.fused ? "fused" : "naive"},
          {"batch", m.shapes.batch},
          {"sequence", m.shapes.sequence},
          {"peaks", peaks},
          {"levels", levels},
          {"exponentials_per_s", std::llround(m.exponentials_per_s)},
          {"fresh_bytes_per_s", std::llround(m.fresh_bytes_per_s)},
          {"call_ns", ns(m.call_seconds)},
          {"layers", layers}};
}

LayerMeasurement layer_measurement_from_json(const nlohmann::json& json,
                                             const std::string& where) {
  want_keys(json,
            {"device", "threads", "decoder", "ops", "batch", "sequence",
             "peaks", "levels", "exponentials_per_s", "fresh_bytes_per_s",
             "call_ns", "layers"},
            where);
  const std::string ops = get_string(json, "ops", where);
  if (ops != "naive" && ops != "fused") {
    refuse(where, "ops {}, known are naive and fused", printable(ops));
  }
  LayerMeasurement m{
      .device = get_string(json, "device", where),
      .threads = static_cast<int>(get_count(json, "threads", where)),
      .decoder = get_string(json, "decoder", where),
      .shapes = {.batch = get_count(json, "batch", where),
                 .sequence = get_count(json, "sequence", where),
                 .fused = ops == "fused"}};
  for (const auto& item : list_in(json, "peaks", where)) {
    const char* tried = "m_n_k_best_ns_median_ns_repetitions_refined";
    want_keys(item, {"dtype", "best", "skipped", tried}, where);
    MatmulPeak peak{.best = trial_from(item["best"], where),
                    .tried = {},
                    .skipped = get_count(item, "skipped", where)};
    for (const auto& t : list_in(item, tried, where)) {
      peak.tried.push_back(trial_from(t, where));
    }
    m.peaks[get_string(item, "dtype", where)] = peak;
  }
  for (const auto& item : list_in(json, "levels", where)) {
    want_keys(item, {"name", "capacity_bytes", "bytes_per_s"}, where);
    m.levels.push_back(
        {get_string(item, "name", where),
         get_count(item, "capacity_bytes", where),
         static_cast<double>(get_count(item, "bytes_per_s", where))});
  }
  m.exponentials_per_s =
      static_cast<double>(get_count(json, "exponentials_per_s", where));
  m.fresh_bytes_per_s =
      static_cast<double>(get_count(json, "fresh_bytes_per_s", where));
  m.call_seconds = seconds(get_count(json, "call_ns", where));
  for (const auto& item : list_in(json, "layers", where)) {
    want_keys(item, {"name", "ns"}, where);
    LayerTimes layer{.name = get_string(item, "name", where), .seconds = {}};
    for (const std::int64_t t : get_counts(item, "ns", where)) {
      layer.seconds.push_back(seconds(t));
    }
    m.layers.push_back(std::move(layer));
  }
  return m;
}

}  // namespace dai::intro
