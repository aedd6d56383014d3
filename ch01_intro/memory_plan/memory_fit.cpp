// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory_plan/memory_fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

#include "common/errors.h"

namespace dai::intro {
namespace {

std::optional<std::int64_t> number_in(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::int64_t number = 0;
  if (in >> number) return number;  // "max" is no number
  return std::nullopt;
}

double gib(std::int64_t bytes) {
  return static_cast<double>(bytes) / (1 << 30);
}

}  // namespace

std::int64_t free_memory_bytes(const std::filesystem::path& root) {
  std::int64_t bytes = std::numeric_limits<std::int64_t>::max();
  std::ifstream meminfo(root / "proc/meminfo");
  std::string name, unit;
  for (std::int64_t kib = 0; meminfo >> name >> kib;) {
    if (name == "MemAvailable:") bytes = kib * 1024;
    std::getline(meminfo, unit);
  }
  // A container sees its own control group (version 2) at the top.
  const auto group = root / "sys/fs/cgroup";
  const auto limit = number_in(group / "memory.max");
  const auto used = number_in(group / "memory.current");
  if (limit && used) bytes = std::min(bytes, *limit - *used);
  return bytes;
}

void check_fits(const PlanSetup& setup, std::int64_t free_bytes) {
  setup.check();
  const PlanPeak peak = plan_memory(setup).peak();
  if (peak.bytes <= free_bytes) return;
  throw UsageError(fmt::format(
      "a step of {} with {} x {} tokens needs {:.1f} GiB ({}, {}), {:.1f} GiB "
      "are free: fewer sequences, or a smaller model",
      setup.config.name, setup.batch, setup.seq, gib(peak.bytes), peak.phase,
      peak.where, gib(free_bytes)));
}

}  // namespace dai::intro
