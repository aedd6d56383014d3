// SPDX-License-Identifier: Apache-2.0
#include "common/launch/rank_environment.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <utility>

namespace dai::launch {

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

int threads_per_rank(int ranks) {
  return std::max(1, usable_cores() / ranks);
}

std::vector<std::string> rank_environment(
    const GroupPlan& plan, const LaunchOptions& options, int local_rank,
    const std::filesystem::path& status_dir) {
  const int rank = plan.rank_offset + local_rank;
  std::vector<std::pair<std::string, std::string>> ours = {
      {"RANK", std::to_string(rank)},
      {"LOCAL_RANK", std::to_string(local_rank)},
      {"WORLD_SIZE", std::to_string(plan.world_size)},
      {"LOCAL_WORLD_SIZE", std::to_string(options.nproc_per_node)},
      {"GROUP_RANK", std::to_string(plan.group_rank)},
      {"GROUP_WORLD_SIZE", std::to_string(plan.group_world_size)},
      {"ROLE_NAME", options.role},
      {"ROLE_RANK", std::to_string(rank)},
      {"ROLE_WORLD_SIZE", std::to_string(plan.world_size)},
      {"MASTER_ADDR", plan.master_addr},
      {"MASTER_PORT", std::to_string(plan.master_port)},
      {"TORCHELASTIC_RESTART_COUNT", std::to_string(plan.attempt)},
      {"TORCHELASTIC_MAX_RESTARTS", std::to_string(options.max_restarts)},
      {"TORCHELASTIC_RUN_ID", options.rdzv_id},
      // torchrun's agent keeps a store for its ranks; here rank 0 makes it.
      {"TORCHELASTIC_USE_AGENT_STORE", "False"},
      {"DAI_STATUS_DIR", status_dir.string()},
      {"DAI_MASTER_LISTEN_FD", ""},
  };
  if (rank == 0 && plan.master_listener) {
    ours.back().second = std::to_string(plan.master_listener.get());
  }
  if (std::getenv("OMP_NUM_THREADS") == nullptr) {
    ours.emplace_back("OMP_NUM_THREADS",
                      std::to_string(threads_per_rank(options.nproc_per_node)));
  }
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const auto name = text.substr(0, text.find('='));
    // A launcher inside a rank of another one must not pass on its values.
    const bool replaced =
        std::any_of(ours.begin(), ours.end(),
                    [&](const auto& pair) { return pair.first == name; });
    if (!replaced) all.emplace_back(text);
  }
  for (const auto& [name, value] : ours) {
    if (!value.empty()) all.push_back(name + "=" + value);
  }
  return all;
}

}  // namespace dai::launch
