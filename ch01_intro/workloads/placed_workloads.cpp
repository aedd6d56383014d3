// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "ch01_intro/workloads/three_workloads.h"
#include "common/errors.h"
#include "common/report.h"

namespace dai::intro {

void ThreeWorkloads::add(const std::string& name, std::int64_t batch,
                         double seconds) {
  Workload work;
  if (name == "training") {
    work = training_workload(config, batch, seq);
  } else if (name == "prefill") {
    work = prefill_workload(config, batch, seq);
  } else if (name == "decode") {
    work = decode_workload(config, batch, context);
  } else {
    throw UsageError(
        fmt::format("'{}' is no workload: training, prefill or decode", name));
  }
  const Placement place =
      roofline.place({.name = name,
                      .flops = work.flops,
                      .bytes = work.bytes,
                      .working_set_bytes = work.memory_bytes,
                      .seconds = seconds});
  rows.push_back({work, seconds, place});
}

std::string ThreeWorkloads::to_table() const {
  Table table({"work x batch", "FLOP/byte", "bound by", "fed by", "roof ms",
               "measured ms", "x roof", "tokens/s", "ms/token", "MiB held"});
  for (const WorkloadRow& row : rows) {
    // What one sequence waits for each of its tokens.
    const double ms_a_token = 1e3 * row.seconds *
                              static_cast<double>(row.work.batch) /
                              static_cast<double>(row.work.tokens);
    table.add_row(
        {fmt::format("{} x {}", row.work.name, row.work.batch),
         fmt::format("{:.2f}", row.work.intensity()),
         to_string(row.place.bound), row.place.level,
         fmt::format("{:.3f}", 1e3 * row.place.roof_seconds),
         fmt::format("{:.3f}", 1e3 * row.seconds),
         fmt::format("{:.2f}", row.place.slowdown),
         fmt::format("{:.0f}", row.tokens_per_s()),
         fmt::format("{:.3f}", ms_a_token),
         fmt::format("{:.1f}",
                     static_cast<double>(row.work.memory_bytes) / (1 << 20))});
  }
  return table.to_string();
}

nlohmann::ordered_json ThreeWorkloads::to_json() const {
  nlohmann::ordered_json levels = nlohmann::ordered_json::array();
  for (const MemoryLevel& level : roofline.levels) {
    levels.push_back({{"name", level.name},
                      {"capacity_bytes", level.capacity_bytes},
                      {"bytes_per_s", level.bytes_per_s}});
  }
  nlohmann::ordered_json times = nlohmann::ordered_json::array();
  for (const WorkloadRow& row : rows) {
    times.push_back({{"name", row.work.name},
                     {"batch", row.work.batch},
                     {"seconds", row.seconds}});
  }
  return {{"model", config.name}, {"seq", seq},
          {"context", context},   {"peak_flop_per_s", roofline.peak_flop_per_s},
          {"levels", levels},     {"times", times}};
}

ThreeWorkloads ThreeWorkloads::from_json(const nlohmann::json& json) {
  try {
    ThreeWorkloads all{.config = decoder_config(json.at("model")),
                       .seq = json.at("seq"),
                       .context = json.at("context")};
    all.roofline.peak_flop_per_s = json.at("peak_flop_per_s");
    for (const nlohmann::json& level : json.at("levels")) {
      all.roofline.levels.push_back({level.at("name"),
                                     level.at("capacity_bytes"),
                                     level.at("bytes_per_s")});
    }
    for (const nlohmann::json& time : json.at("times")) {
      all.add(time.at("name"), time.at("batch"), time.at("seconds"));
    }
    return all;
  } catch (const nlohmann::json::exception& error) {
    throw UsageError(
        fmt::format("no measurement of workloads: {}", error.what()));
  }
}

}  // namespace dai::intro
