// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/recorded/recorded.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>

#include "common/file.h"
#include "common/report.h"
#include "common/strict_json.h"

namespace dai::intro {
namespace {

constexpr int kSchema = 1;
constexpr int kMaxDepth = 12;

// One line for each innermost list: a thousand samples stay readable, and a
// new recording stays a small difference.
void write(std::string& out, const nlohmann::ordered_json& value, int depth) {
  const bool flat = !value.is_structured() || value.empty() ||
                    (value.is_array() && !value.front().is_structured());
  if (flat) {
    out += value.dump();
    return;
  }
  const bool object = value.is_object();
  out += object ? "{" : "[";
  const std::string indent(2 * (depth + 1), ' ');
  bool first = true;
  for (const auto& [key, item] : value.items()) {
    out += (first ? "\n" : ",\n") + indent;
    if (object) out += nlohmann::ordered_json(key).dump() + ": ";
    write(out, item, depth + 1);
    first = false;
  }
  out += "\n" + std::string(2 * depth, ' ') + (object ? "}" : "]");
}

}  // namespace

std::string recorded_path(const std::string& file) {
  return std::string(DAI_CH01_RECORDED) + "/" + file;
}

void write_recorded(const std::string& path, const std::string& app,
                    const nlohmann::ordered_json& data) {
  nlohmann::ordered_json machine = describe_machine();
  for (const char* of_no_use : {"host", "kernel"}) machine.erase(of_no_use);
  const nlohmann::ordered_json whole = {
      {"schema", kSchema},
      {"app", app},
      {"date", fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::time(nullptr)))},
      {"machine", machine},
      {"data", data}};
  std::string text;
  write(text, whole, 0);
  write_file_atomically(path, text + "\n");
}

Recorded read_recorded(const std::string& path, const std::string& app) {
  const std::string where = "'" + path + "'";
  const nlohmann::json whole =
      parse_strict_json(read_file(path), where, kMaxDepth);
  want_keys(whole, {"schema", "app", "date", "machine", "data"}, where);
  if (get_count(whole, "schema", where) != kSchema) {
    refuse(where, "schema {}, this program reads {}",
           get_count(whole, "schema", where), kSchema);
  }
  if (get_string(whole, "app", where) != app) {
    refuse(where, "recorded by {}, not by {}",
           printable(get_string(whole, "app", where)), app);
  }
  const nlohmann::json& machine = whole["machine"];
  std::string origin;
  if (machine.is_object() && machine.contains("cpu") &&
      machine["cpu"].is_string()) {
    origin = machine["cpu"].get<std::string>() + ", ";
  }
  return {.data = whole["data"],
          .origin = origin + get_string(whole, "date", where)};
}

}  // namespace dai::intro
