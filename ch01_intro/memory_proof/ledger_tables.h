// SPDX-License-Identifier: Apache-2.0
#pragma once

// A plan and a measurement side by side, for people and for scripts/plot.
//
//   app.print(prediction_table(plan));            // before the run
//   app.print(comparison_table(plan, measured));  // after it
//   app.attach("memory_timeline", {{"naive", timeline_json(report)}});

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "ch01_intro/memory_proof/measured_step.h"

namespace dai::intro {

// Line by line: what holds which shape, and why.
std::string prediction_table(const MemoryPlan& plan);

// By category, then by phase with its largest moment.
std::string comparison_table(const MemoryPlan& plan,
                             const MeasuredStep& measured);

// Who allocated what the peak holds: the `rows` largest modules, then the rest
// in one row.
std::string module_table(const MemoryReport& report, std::size_t rows);

// {"ms": [...], "bytes": {category: [...]}, "phases": [{name, begin, end}]}
nlohmann::ordered_json timeline_json(const MemoryReport& report);

// |measured - predicted| summed over parameters, gradients, optimizer, buffers.
std::int64_t states_error(const MemoryPlan& plan, const MeasuredStep& measured);

// (measured - predicted) / predicted.
double relative_error(std::int64_t predicted, std::int64_t measured);

// The largest |relative_error| of a phase's peak.
double worst_peak_error(const MemoryPlan& plan, const MeasuredStep& measured);

// max - min of the live bytes after each step: 0, or something leaks.
std::int64_t leaked_bytes(const MeasuredStep& measured);

}  // namespace dai::intro
