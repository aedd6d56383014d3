// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory_proof/ledger_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <stdexcept>

#include "common/report.h"

namespace dai::intro {
namespace {

using C = MemoryCategory;
constexpr C kStates[] = {C::kParameters, C::kGradients, C::kOptimizer,
                         C::kBuffers};

std::string percent(double fraction) {
  return fmt::format("{:+.2f} %", 100 * fraction);
}

std::vector<std::string> compared(const std::string& what,
                                  std::int64_t predicted,
                                  std::int64_t measured) {
  return {what, fmt::format("{}", predicted), fmt::format("{}", measured),
          fmt::format("{}", measured - predicted)};
}

void check_phases(const MemoryPlan& plan, const MeasuredStep& measured) {
  const bool same = std::equal(
      plan.peaks.begin(), plan.peaks.end(), measured.phases.begin(),
      measured.phases.end(),
      [](const PlanPeak& a, const auto& b) { return a.phase == b.name; });
  if (!same) throw std::logic_error("the plan's phases are not the trainer's");
}

}  // namespace

std::string prediction_table(const MemoryPlan& plan) {
  Table table({"category", "where", "what is kept", "shape", "bytes", "times"});
  for (const PlanLine& line : plan.lines) {
    table.add_row({to_string(line.category), line.module, line.what, line.shape,
                   fmt::format("{}", line.bytes),
                   fmt::format("{}", line.times)});
  }
  const PlanPeak& peak = plan.peak();
  return fmt::format("{}states {} bytes, activations {}, peak {} in {} ({})\n",
                     table.to_string(), plan.states(),
                     plan.total(C::kActivations), peak.bytes, peak.phase,
                     peak.where);
}

std::string comparison_table(const MemoryPlan& plan,
                             const MeasuredStep& measured) {
  check_phases(plan, measured);
  Table categories({"category", "predicted bytes", "measured", "difference"});
  for (const C category : kStates) {
    categories.add_row(compared(to_string(category), plan.total(category),
                                measured.states[category]));
  }
  categories.add_row(compared("activations", plan.total(C::kActivations),
                              measured.activations));
  Table phases({"phase", "predicted peak", "measured", "off", "there"});
  for (std::size_t i = 0; i < plan.peaks.size(); ++i) {
    const PlanPeak& peak = plan.peaks[i];
    const std::int64_t bytes = measured.phases[i].peak_bytes;
    phases.add_row({peak.phase, fmt::format("{}", peak.bytes),
                    fmt::format("{}", bytes),
                    percent(relative_error(peak.bytes, bytes)), peak.where});
  }
  return categories.to_string() + "\n" + phases.to_string();
}

std::string module_table(const MemoryReport& report, std::size_t rows) {
  Table table({"module at the peak", "activations", "temporary", "all bytes"});
  MemoryBytes rest;
  const auto add = [&](const std::string& name, const MemoryBytes& bytes) {
    table.add_row({name, fmt::format("{}", bytes[C::kActivations]),
                   fmt::format("{}", bytes[C::kTemporary]),
                   fmt::format("{}", bytes.total())});
  };
  for (std::size_t i = 0; i < report.modules.size(); ++i) {
    const auto& [name, bytes] = report.modules[i];
    if (i < rows) {
      add(name.empty() ? "(outside: states, backward)" : name, bytes);
    } else {
      for (int c = 0; c < kMemoryCategories; ++c) {
        rest.bytes[c] += bytes.bytes[c];
      }
    }
  }
  if (report.modules.size() > rows) {
    add(fmt::format("{} more", report.modules.size() - rows), rest);
  }
  return table.to_string();
}

nlohmann::ordered_json timeline_json(const MemoryReport& report) {
  nlohmann::ordered_json json;
  json["ms"] = nlohmann::ordered_json::array();
  json["bytes"] = nlohmann::ordered_json::object();
  for (const auto& point : report.timeline) {
    json["ms"].push_back(std::round(point.us) / 1000);
    for (int c = 0; c < kMemoryCategories; ++c) {
      json["bytes"][to_string(static_cast<C>(c))].push_back(
          point.live.bytes[c]);
    }
  }
  json["phases"] = nlohmann::ordered_json::array();
  for (const auto& phase : report.phases) {
    json["phases"].push_back({{"name", phase.name},
                              {"begin_ms", std::round(phase.begin_us) / 1000},
                              {"end_ms", std::round(phase.end_us) / 1000}});
  }
  return json;
}

std::int64_t states_error(const MemoryPlan& plan,
                          const MeasuredStep& measured) {
  std::int64_t error = 0;
  for (const C category : kStates) {
    error += std::abs(measured.states[category] - plan.total(category));
  }
  return error;
}

double relative_error(std::int64_t predicted, std::int64_t measured) {
  return static_cast<double>(measured - predicted) /
         static_cast<double>(predicted);
}

double worst_peak_error(const MemoryPlan& plan, const MeasuredStep& measured) {
  check_phases(plan, measured);
  double worst = 0;
  for (std::size_t i = 0; i < plan.peaks.size(); ++i) {
    worst = std::max(worst,
                     std::abs(relative_error(plan.peaks[i].bytes,
                                             measured.phases[i].peak_bytes)));
  }
  return worst;
}

std::int64_t leaked_bytes(const MeasuredStep& measured) {
  const auto [least, most] = std::minmax_element(measured.after_step.begin(),
                                                 measured.after_step.end());
  return *most - *least;
}

}  // namespace dai::intro
