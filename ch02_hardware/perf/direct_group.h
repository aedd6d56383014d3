// SPDX-License-Identifier: Apache-2.0
#pragma once

// Chapter 2's collectives for an app whose ranks have met already: the apps
// use a ProcessGroup to find each other, and then measure without it.
//
//   DirectGroup direct = connect_direct(app.launch(), group, options);
//   ring_all_reduce(operands, direct.communicator->transport());

#include <memory>
#include <string>
#include <vector>

#include "ch02_hardware/model/communicator.h"
#include "ch02_hardware/transport/node_transport.h"

namespace dai {
struct LaunchContext;
class ProcessGroup;
}  // namespace dai

namespace dai::hardware {

struct DirectOptions {
  std::string medium = "auto";  // auto, shm, tcp, mpi (under mpirun)
  std::string interface;        // for tcp between nodes; empty: chosen
  // From load_model(), before the ranks agree to start; null: the built-in one.
  std::shared_ptr<const CollectiveModel> model;
  std::int64_t timeout_s = 60;
  bool cross_memory_attach = true;
};

// A file of ch02_collective_explorer --fit; the built-in one without a name.
// Throws UsageError.
std::shared_ptr<const CollectiveModel> load_model(const std::string& file);

// Whether this rank can use that medium at all; for the ranks' preflight, so
// that all of them end alike. Throws UsageError or Unavailable.
void check_medium(const LaunchContext& launch, const std::string& medium);

struct DirectGroup {
  std::shared_ptr<const CollectiveModel> model;
  std::unique_ptr<Communicator> communicator;
  std::string description;  // "shm, 2 ranks on 1 node"
  // By Transport::node_of(): the host, with a number where that is not enough.
  std::vector<std::string> node_names;
};

// Collective.
DirectGroup connect_direct(const LaunchContext& launch, ProcessGroup& group,
                           const DirectOptions& options);

}  // namespace dai::hardware
