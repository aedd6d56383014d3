// SPDX-License-Identifier: Apache-2.0
#include "common/report.h"

#include <fmt/format.h>
#include <sched.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <stdexcept>

#include "common/errors.h"

namespace dai {
namespace {

bool looks_numeric(const std::string& cell) {
  return !cell.empty() &&
         cell.find_first_not_of("0123456789.,+-%ex") == std::string::npos;
}

std::string first_match(const char* file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(key, 0) != 0) continue;
    const auto value = line.find_first_not_of(" \t:=\"", key.size());
    if (value == std::string::npos) return "";
    line.erase(0, value);
    while (!line.empty() && (line.back() == '"' || line.back() == ' ')) {
      line.pop_back();
    }
    return line;
  }
  return "";
}

// The instruction sets that our kernels choose among.
std::string instruction_sets() {
  const std::string flags = " " + first_match("/proc/cpuinfo", "flags") + " ";
  std::string found;
  for (const char* name : {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}) {
    if (flags.find(" " + std::string(name) + " ") == std::string::npos) {
      continue;
    }
    found += (found.empty() ? "" : " ") + std::string(name);
  }
  return found.empty() ? "baseline" : found;
}

}  // namespace

Table::Table(std::vector<std::string> header) : rows_{std::move(header)} {}

void Table::add_row(std::vector<std::string> row) {
  if (row.size() != rows_[0].size()) {
    throw std::invalid_argument(
        fmt::format("a row of {} cells in a table of {} columns", row.size(),
                    rows_[0].size()));
  }
  rows_.push_back(std::move(row));
}

std::string Table::to_string() const {
  const std::size_t columns = rows_[0].size();
  std::string out;
  std::vector<std::size_t> width(columns, 0);
  std::vector<bool> right(columns, rows_.size() > 1);
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    for (std::size_t c = 0; c < columns; ++c) {
      width[c] = std::max(width[c], rows_[r][c].size());
      if (r > 0 && !looks_numeric(rows_[r][c])) right[c] = false;
    }
  }
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    std::string line;
    for (std::size_t c = 0; c < columns; ++c) {
      line += right[c] ? fmt::format("{:>{}}", rows_[r][c], width[c])
                       : fmt::format("{:<{}}", rows_[r][c], width[c]);
      if (c + 1 < columns) line += "  ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
    if (r > 0) continue;
    for (std::size_t c = 0; c < columns; ++c) {
      out += std::string(width[c], '-') + (c + 1 < columns ? "  " : "\n");
    }
  }
  return out;
}

bool Check::ok() const {
  return std::fabs(value) <= tolerance;
}

std::string Check::to_string() const {
  return fmt::format("check: {} = {:.6g} (tolerance {:.6g}) {}", name, value,
                     tolerance, ok() ? "ok" : "FAILED");
}

nlohmann::ordered_json describe_machine() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const bool known = sched_getaffinity(0, sizeof set, &set) == 0;
  struct sysinfo memory = {};
  sysinfo(&memory);
  utsname kernel = {};
  uname(&kernel);
  return {{"host", kernel.nodename},
          {"cpu", first_match("/proc/cpuinfo", "model name")},
          {"instruction_sets", instruction_sets()},
          {"cores", known ? CPU_COUNT(&set) : 0},
          {"memory_bytes", std::uint64_t{memory.totalram} * memory.mem_unit},
          {"os", first_match("/etc/os-release", "PRETTY_NAME")},
          {"kernel", kernel.release},
          {"arch", kernel.machine}};
}

nlohmann::ordered_json Report::to_json(int exit_code) const {
  auto rows = nlohmann::ordered_json::array();
  for (const Check& check : checks) {
    // JSON has no NaN or infinity: such a value becomes null, ok stays false.
    rows.push_back({{"name", check.name},
                    {"value", check.value},
                    {"tolerance", check.tolerance},
                    {"ok", check.ok()}});
  }
  nlohmann::ordered_json out = {
      {"schema", 1},
      {"app", app},
      {"version", DAI_VERSION},
      {"check", exit_code == kExitOk            ? "ok"
                : exit_code == kExitUnavailable ? "skipped"
                                                : "failed"},
      {"checks", std::move(rows)},
      {"seed", seed},
      {"machine", describe_machine()},
      {"ranks",
       {{"world_size", launch.world_size},
        {"nodes", launch.node_count},
        {"launcher", dai::to_string(launch.launcher)}}},
      {"metrics", metrics}};
  out.update(extra);
  return out;
}

}  // namespace dai
