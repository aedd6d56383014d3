// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a rank learns about itself: torchrun's environment variables, from what
// the rendezvous decided and what the user asked for. Two are our own:
//
//   DAI_MASTER_LISTEN_FD  (rank 0 only) an inherited socket that listens on
//                         MASTER_PORT already, so nobody can take the port
//   DAI_STATUS_DIR        where the rank says which collective it is in
//                         (common/rank_status.h)
//
// TORCHELASTIC_RESTART_COUNT counts all restarts, those that only let another
// node in included, since a rank has to resume after either kind.
//
//   auto texts = rank_environment(plan, options, 0, "/tmp/x");  // "RANK=0" ...

#include <filesystem>
#include <string>
#include <vector>

#include "common/launch/net.h"
#include "common/launch/options.h"

namespace dai::launch {

// What the rendezvous decided for this node and this attempt.
struct GroupPlan {
  int attempt = 0;
  int world_size = 1;
  int rank_offset = 0;  // global rank of this node's first rank
  int group_rank = 0;
  int group_world_size = 1;
  std::string master_addr;
  int master_port = 0;
  UniqueFd master_listener;  // on the node of rank 0: MASTER_PORT, listening
};

// The launcher's environment with the rank's variables put in.
std::vector<std::string> rank_environment(
    const GroupPlan& plan, const LaunchOptions& options, int local_rank,
    const std::filesystem::path& status_dir);

// The cores that this process may run on, which taskset and containers limit.
int usable_cores();

// OMP_NUM_THREADS for each of `ranks` ranks that share them; at least 1.
int threads_per_rank(int ranks);

}  // namespace dai::launch
