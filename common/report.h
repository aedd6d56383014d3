// SPDX-License-Identifier: Apache-2.0
#pragma once

// What an example has to say at its end: tables for people, one JSON shape for
// programs, and the checks that decide its exit code.
//
//   Table table({"rank", "host", "device"});
//   table.add_row({"0", "node-a", "cpu"});
//   fmt::print("{}", table.to_string());

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/launch_context.h"

namespace dai {

// A plain text table: numbers right-aligned, everything else left-aligned.
class Table {
 public:
  explicit Table(std::vector<std::string> header);
  // Throws std::invalid_argument when the row is not as wide as the header.
  void add_row(std::vector<std::string> row);
  std::string to_string() const;

 private:
  std::vector<std::vector<std::string>> rows_;  // rows_[0] is the header
};

// One proof: |value| must not exceed `tolerance`. NaN never passes.
struct Check {
  std::string name;  // "max|ring - reference|"
  double value = 0;
  double tolerance = 0;
  bool ok() const;
  std::string to_string() const;  // "check: NAME = V (tolerance T) ok"
};

// Everything an app wrote down while it ran. Serialised as
// { schema, app, version, check, checks, seed, machine, ranks, metrics, ... }.
struct Report {
  std::string app;
  std::uint64_t seed = 0;
  LaunchContext launch;
  std::vector<Check> checks;
  nlohmann::ordered_json metrics = nlohmann::ordered_json::object();
  nlohmann::ordered_json extra = nlohmann::ordered_json::object();

  // "ok", "failed" or "skipped" is decided by the caller's exit code.
  nlohmann::ordered_json to_json(int exit_code) const;
};

// CPU model, instruction sets, cores this process may use, memory, OS.
nlohmann::ordered_json describe_machine();

}  // namespace dai
