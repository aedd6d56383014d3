// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/bottleneck/evidence.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "common/strict_json.h"

namespace dai::intro {
namespace {

constexpr std::int64_t kSchema = 1;
constexpr std::array<const char*, kMeasures> kNames = {"step_ms",
                                                       "data_ms",
                                                       "forward_ms",
                                                       "backward_ms",
                                                       "optimizer_ms",
                                                       "loop_ms",
                                                       "wait_ms",
                                                       "wire_ms",
                                                       "compute_cpu_ms",
                                                       "starved_ms",
                                                       "run_delay_ms",
                                                       "voluntary_switches",
                                                       "involuntary_switches",
                                                       "node_busy_share",
                                                       "fma_us",
                                                       "random_read_ns",
                                                       "stream_us_per_mb",
                                                       "ping_us",
                                                       "link_us_per_mb"};

double three_digits(double value) {
  return std::stod(fmt::format("{:.3g}", value));
}

nlohmann::ordered_json job_to_json(const JobEvidence& job) {
  auto steps = nlohmann::ordered_json::array();
  for (const StepEvidence& step : job) {
    auto ranks = nlohmann::ordered_json::array();
    for (const Measures& measures : step) {
      auto row = nlohmann::ordered_json::array();
      for (const double value : measures) {
        if (std::isfinite(value)) {
          row.push_back(three_digits(value));
        } else {
          row.push_back(nullptr);
        }
      }
      ranks.push_back(std::move(row));
    }
    steps.push_back(std::move(ranks));
  }
  return steps;
}

Measures read_row(const nlohmann::json& row, std::string_view where) {
  if (!row.is_array() || row.size() != kMeasures) {
    refuse(where, "each rank of a step holds {} measures",
           static_cast<int>(kMeasures));
  }
  Measures measures = no_measures();
  for (std::size_t i = 0; i < kMeasures; ++i) {
    if (row[i].is_null()) continue;
    if (!row[i].is_number() || row[i].get<double>() < 0) {
      refuse(where, "{}: a number from 0, or null", kNames[i]);
    }
    measures[i] = row[i].get<double>();
  }
  return measures;
}

JobEvidence read_job(const nlohmann::json& json, const char* key,
                     std::size_t ranks, std::string_view where) {
  JobEvidence job;
  if (!json.at(key).is_array()) refuse(where, "{} is no list of steps", key);
  for (const auto& step : json.at(key)) {
    if (!step.is_array() || step.size() != ranks) {
      refuse(where, "{}: step {} is not of {} ranks", key, job.size(), ranks);
    }
    StepEvidence rows;
    for (const auto& row : step) rows.push_back(read_row(row, where));
    job.push_back(std::move(rows));
  }
  return job;
}

}  // namespace

const char* to_string(Measure measure) {
  return kNames.at(static_cast<std::size_t>(measure));
}

Measures no_measures() {
  Measures measures;
  measures.fill(std::numeric_limits<double>::quiet_NaN());
  return measures;
}

int Evidence::ranks() const {
  if (!watched.empty()) return static_cast<int>(watched.front().size());
  return reference.empty() ? 0 : static_cast<int>(reference.front().size());
}

nlohmann::ordered_json to_json(const Evidence& evidence) {
  return {{"schema", kSchema},
          {"ranks", evidence.ranks()},
          {"measures", kNames},
          {"reference", job_to_json(evidence.reference)},
          {"watched", job_to_json(evidence.watched)}};
}

Evidence read_evidence(std::string_view text, std::string_view where) {
  const nlohmann::json json = parse_strict_json(text, where, 5);
  want_keys(json, {"schema", "ranks", "measures", "reference", "watched"},
            where);
  if (get_count(json, "schema", where) != kSchema) {
    refuse(where, "schema {}, expected {}", get_count(json, "schema", where),
           kSchema);
  }
  if (json.at("measures") != nlohmann::json(kNames)) {
    refuse(where, "measures are not those of schema {}", kSchema);
  }
  const auto ranks = get_count(json, "ranks", where);
  if (ranks < 1) refuse(where, "{} ranks", ranks);
  const auto count = static_cast<std::size_t>(ranks);
  return {.reference = read_job(json, "reference", count, where),
          .watched = read_job(json, "watched", count, where)};
}

std::vector<double> series(const JobEvidence& job, int rank, Measure measure) {
  std::vector<double> values;
  for (const StepEvidence& step : job) {
    values.push_back(step.at(static_cast<std::size_t>(rank))[measure]);
  }
  return values;
}

}  // namespace dai::intro
