// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/first_run/who_am_i.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <vector>

#include "common/report.h"
#include "common/torch/process_group.h"

namespace dai::intro {

std::string who_am_i_table(ProcessGroup& group, const LaunchContext& launch) {
  const std::string me =
      fmt::format("{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}", launch.rank,
                  launch.node_rank, launch.host, launch.local_rank, getpid(),
                  group.device().str(), usable_cores(), at::get_num_threads());
  Table table({"rank", "node", "host", "local rank", "pid", "device",
               "usable cores", "threads"});
  for (const std::string& line : group.gather_strings(me)) {
    std::vector<std::string> row;
    std::istringstream cells(line);
    for (std::string cell; std::getline(cells, cell, '\t');) {
      row.push_back(cell);
    }
    table.add_row(row);
  }
  std::string text = table.to_string();
  if (launch.local_world_size > usable_cores()) {
    text += fmt::format(
        "{} ranks share {} cores: they take turns, expect no speed-up\n",
        launch.local_world_size, usable_cores());
  }
  return text;
}

int usable_cores() {
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) {
    return static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  }
  return CPU_COUNT(&mask);
}

double ms_since_process_start() {
  std::ifstream file("/proc/self/stat");
  std::string stat((std::istreambuf_iterator<char>(file)), {});
  // The 22nd field, counted after the name: that may hold spaces, in brackets.
  std::istringstream fields(stat.substr(stat.rfind(')') + 1));
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  double start_ticks = 0;
  fields >> start_ticks;
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec * 1e3 + now.tv_nsec / 1e6 -
         start_ticks * 1e3 / sysconf(_SC_CLK_TCK);
}

}  // namespace dai::intro
