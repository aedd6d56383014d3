// SPDX-License-Identifier: Apache-2.0
#include "common/control_group.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "common/file.h"

namespace dai {
namespace {

namespace fs = std::filesystem;

// A number, or -1 for "max" and anything else.
double number(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  return end == text.c_str() ? -1 : value;
}

// Where a cgroup controller's files lie, from this process's group up to the
// root: a limit anywhere on the way holds. Both hierarchies are asked, since
// machines of today mount either or both.
std::vector<std::string> cgroup_folders(const std::string& root,
                                        const std::string& controller) {
  std::vector<std::string> folders;
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names =
        "," + line.substr(first + 1, second - first - 1) + ",";
    const bool unified = names == ",,";
    if (!unified && names.find("," + controller + ",") == std::string::npos) {
      continue;
    }
    const std::string base =
        root + "/sys/fs/cgroup" + (unified ? "" : "/" + controller);
    fs::path group = line.substr(second + 1);
    while (group.has_relative_path()) {
      folders.push_back(base + group.string());
      group = group.parent_path();
    }
    folders.push_back(base);
  }
  return folders;
}

// The strictest of the limits found; -1: none.
template <class Read>
double strictest(const std::vector<std::string>& folders, Read&& read) {
  double lowest = -1;
  for (const std::string& folder : folders) {
    const double limit = read(folder);
    if (limit > 0 && (lowest < 0 || limit < lowest)) lowest = limit;
  }
  return lowest;
}

// A line "key n" of memory.stat, in bytes; 0: there is none.
double statistic(const std::string& folder, const std::string& key) {
  std::ifstream file(folder + "/memory.stat");
  std::string name;
  for (double bytes = 0; file >> name >> bytes;) {
    if (name == key) return bytes;
  }
  return 0;
}

// What is left of the limit of one group; -1: it has none.
double left_of_limit(const std::string& folder) {
  struct Names {
    const char *limit, *used, *cached;
  };
  constexpr Names kVersions[] = {
      {"/memory.max", "/memory.current", "inactive_file"},
      {"/memory.limit_in_bytes", "/memory.usage_in_bytes",
       "total_inactive_file"}};
  for (const Names& names : kVersions) {
    const double limit = number(first_line_of(folder + names.limit));
    // No limit is a number near 2^63 in the older hierarchy.
    if (limit < 0 || limit > 1e18) continue;
    const double used = number(first_line_of(folder + names.used)) -
                        statistic(folder, names.cached);
    return std::max(1.0, limit - std::max(0.0, used));
  }
  return -1;
}

}  // namespace

std::int64_t meminfo_bytes(const std::string& key, const std::string& root) {
  std::ifstream file(root + "/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key + ":")) {
      return std::strtoll(line.c_str() + key.size() + 1, nullptr, 10) * 1024;
    }
  }
  return -1;
}

double cpu_quota(const std::string& root) {
  return strictest(cgroup_folders(root, "cpu"), [](const std::string& folder) {
    std::istringstream both(
        first_line_of(folder + "/cpu.max"));  // "200000 100000"
    std::string quota, period;
    if (!(both >> quota >> period)) {
      quota = first_line_of(folder + "/cpu.cfs_quota_us");
      period = first_line_of(folder + "/cpu.cfs_period_us");
    }
    return number(period) > 0 ? number(quota) / number(period) : -1;
  });
}

std::int64_t memory_available_bytes(const std::string& root) {
  const std::int64_t free = meminfo_bytes("MemAvailable", root);
  const double left = strictest(cgroup_folders(root, "memory"), left_of_limit);
  if (left < 0) return free;
  const auto limit = static_cast<std::int64_t>(left);
  return free < 0 ? limit : std::min(free, limit);
}

}  // namespace dai
