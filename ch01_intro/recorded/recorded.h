// SPDX-License-Identifier: Apache-2.0
#pragma once

// Measurements that were made once, on a machine that had nothing else to do,
// and committed. A smoke test may not fail because its machine is busy, so it
// judges such a file by the very code that judges a live measurement, and
// shows its own times beside.
//
//   write_recorded("new.json", "ch01_shape_advisor", data);   // --record
//   Recorded r = read_recorded(recorded_path("cpu_rule.json"),
//                              "ch01_shape_advisor");
//   r.data, r.origin                  // "AMD EPYC, 2 cores, 2026-11-25"
//
// The file: { schema, app, date, machine, data }.

#include <nlohmann/json.hpp>
#include <string>

namespace dai::intro {

struct Recorded {
  nlohmann::json data;
  std::string origin;
};

// Of a file committed in ch01_intro/recorded/, which is compiled in: a program
// that is copied elsewhere still has it.
std::string recorded_path(const std::string& file);

// Throws UsageError for a path that cannot be written.
void write_recorded(const std::string& path, const std::string& app,
                    const nlohmann::ordered_json& data);

// Throws UsageError, with the path, for what is no such file or another app's.
Recorded read_recorded(const std::string& path, const std::string& app);

}  // namespace dai::intro
