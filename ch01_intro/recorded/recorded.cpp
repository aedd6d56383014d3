// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/recorded/recorded.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>
#include <map>
#include <string_view>

#include "common/embedded.h"
#include "common/errors.h"
#include "common/file.h"
#include "common/report.h"
#include "common/strict_json.h"

DAI_EMBEDDED(bottleneck_communication_json);
DAI_EMBEDDED(bottleneck_compute_json);
DAI_EMBEDDED(bottleneck_input_json);
DAI_EMBEDDED(bottleneck_memory_json);
DAI_EMBEDDED(bottleneck_none_json);
DAI_EMBEDDED(cpu_rule_json);
DAI_EMBEDDED(roofline_json);
DAI_EMBEDDED(three_workloads_json);

namespace dai::intro {
namespace {

// What stands before the name of a file that is compiled in.
const std::string kCommitted = "recorded:";

std::string text_of(const std::string& path) {
  if (!path.starts_with(kCommitted)) return read_file(path);
  const std::map<std::string, std::string_view> files = {
      {"bottleneck_communication.json",
       embedded_bottleneck_communication_json()},
      {"bottleneck_compute.json", embedded_bottleneck_compute_json()},
      {"bottleneck_input.json", embedded_bottleneck_input_json()},
      {"bottleneck_memory.json", embedded_bottleneck_memory_json()},
      {"bottleneck_none.json", embedded_bottleneck_none_json()},
      {"cpu_rule.json", embedded_cpu_rule_json()},
      {"roofline.json", embedded_roofline_json()},
      {"three_workloads.json", embedded_three_workloads_json()}};
  const auto found = files.find(path.substr(kCommitted.size()));
  if (found == files.end()) {
    throw UsageError(
        fmt::format("'{}': no such recording is compiled in", path));
  }
  return std::string(found->second);
}

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
  return kCommitted + file;
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
      parse_strict_json(text_of(path), where, kMaxDepth);
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
