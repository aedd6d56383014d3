// SPDX-License-Identifier: Apache-2.0
#pragma once

// Who am I among the ranks? Every launcher answers in its own environment
// variables; this header reads all the dialects into one struct.
//
//   torchrun, dai_launch   RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE ...
//   Open MPI 4 and 5       OMPI_COMM_WORLD_RANK ... (PMIX_RANK as witness)
//   Slurm                  SLURM_PROCID SLURM_NTASKS SLURM_LOCALID ...
//   none of them           one rank of one
//
// torchrun's names win over the others, so that `srun torchrun ...` is read as
// torchrun. A half-set or contradictory environment throws UsageError naming
// the variables: guessing a rank would train on the wrong data in silence.
//
//   dai::LaunchContext launch = dai::launch_context_from_environment();
//   if (launch.rank == 0) fmt::print("{} ranks\n", launch.world_size);

#include <functional>
#include <optional>
#include <string>

namespace dai {

enum class Launcher { kNone, kTorchrun, kOpenMpi, kSlurm };

struct LaunchContext {
  Launcher launcher = Launcher::kNone;
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  int local_world_size = 1;
  int node_rank = 0;
  int node_count = 1;
  int restart_count = 0;  // how often the launcher restarted the group

  // Where rank 0's store listens. Empty/0: nobody said; then all ranks are on
  // this node and meet through `meeting_file` (rank 0 publishes its port).
  std::string master_addr;
  int master_port = 0;
  std::string meeting_file;

  // torchrun's agent already serves a store at master_addr:master_port.
  bool agent_store = false;
  // dai_launch hands rank 0 a socket that listens already: no port race.
  std::optional<int> master_listen_fd;

  // A launcher watches the ranks and shows their output together; ranks that
  // were started by hand may each have a terminal of their own.
  bool supervised = false;

  std::string host;  // this node's name, for messages
};

using Environment = std::function<const char*(const char* name)>;

// `get` returns the variable's value or nullptr, as getenv does; tests pass
// recorded environments. Throws UsageError.
LaunchContext launch_context_from_environment(const Environment& get = {});

const char* to_string(Launcher launcher);

}  // namespace dai
