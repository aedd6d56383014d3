// SPDX-License-Identifier: Apache-2.0
#pragma once

// A decoder's layers under a machine's roofs: the measurement, as it is
// written and read, and the verdict on it.
//
//   LayerMeasurement m = ...;           // layer_times.h, or a recorded file
//   RooflineVerdict v = judge_roofline(m);
//   v.outside_share;                    // at most kOutsideShare
//
// A layer keeps its promise when its time is 1 to 2 times that of its roof.
// Above 2 something else than the roof bounds it; below 1 the roof was
// measured too low and says nothing. What a layer has to do is worked out
// again at every judgement (layer_work.h): a file holds times, no work.
// Torch-free.

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ch01_intro/placement/layer_work.h"
#include "ch01_intro/roofline/matmul_search.h"
#include "ch01_intro/roofline/roofline.h"

namespace dai::intro {

inline constexpr double kMostSlowdown = 2;
inline constexpr double kOutsideShare = 0.2;

struct LayerTimes {
  std::string name;
  std::vector<double> seconds;
};

struct LayerMeasurement {
  std::string device;  // "cpu"
  int threads = 1;
  std::string decoder;  // the config's name
  LayerShapes shapes{};
  std::map<std::string, MatmulPeak> peaks{};  // "fp32", "bf16"
  std::vector<MemoryLevel> levels{};
  double exponentials_per_s = 0, call_seconds = 0, fresh_bytes_per_s = 0;
  std::vector<LayerTimes> layers{};

  // Of the layers' own type, fp32.
  Roofline roofline() const;
};

struct PlacedLayer {
  Work work;  // with its median time
  std::int64_t count = 1;
  Placement placement;
  bool inside = false;
  double time_share = 0;  // of all layers' time, in all blocks together
};

struct RooflineVerdict {
  std::vector<PlacedLayer> layers;
  double outside_share = 0;  // of all layers, a block's counted in each block
  double outside_time_share = 0;  // of the time of all layers
};

// Throws std::invalid_argument when a layer of the decoder has no times or a
// time has no layer, UsageError for an unknown decoder.
RooflineVerdict judge_roofline(const LayerMeasurement& measurement);

std::string roof_table(const LayerMeasurement& measurement);
std::string layer_table(const RooflineVerdict& verdict);
// For `scripts/book plot`: the key "roofline" of an app's report.
nlohmann::ordered_json roofline_chart(const LayerMeasurement& measurement,
                                      const RooflineVerdict& verdict);

// Reading throws UsageError with `where`.
nlohmann::ordered_json to_json(const LayerMeasurement& measurement);
LayerMeasurement layer_measurement_from_json(const nlohmann::json& json,
                                             const std::string& where);

}  // namespace dai::intro
