// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/perf/direct_group.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "ch02_hardware/transport/mpi_transport.h"
#include "common/errors.h"
#include "common/launch_context.h"
#include "common/torch/network_address.h"
#include "common/torch/own_library.h"
#include "common/torch/process_group.h"

namespace dai::hardware {
namespace {

const MpiTransportLibrary& load_mpi_transport_library() {
  static auto* const entry =
      reinterpret_cast<decltype(&dai_mpi_transport_library)>(own_library_symbol(
          "libdai_mpi_transport.so", "dai_mpi_transport_library",
          "this build has no MPI transport: CMake found no "
          "MPI (Debian: libopenmpi-dev)",
          // MPI's plugins look for its symbols.
          LibraryScope::kGlobal));
  return *entry();
}

Connection connect_mpi(const NodeOptions& nodes) {
  TransportOptions options = nodes;
  options.ranks_on_node = static_cast<int>(std::count(
      nodes.nodes.begin(), nodes.nodes.end(), nodes.nodes[nodes.rank]));
  return {load_mpi_transport_library().connect(nodes.rank, nodes.size,
                                               nodes.nodes, options),
          "mpi"};
}

}  // namespace

void check_medium(const LaunchContext& launch, const std::string& medium) {
  if (medium != "mpi") {
    medium_from_name(medium);
    return;
  }
  // As --backend mpi: under another launcher each rank would be a world alone.
  if (launch.world_size > 1 && launch.launcher != Launcher::kOpenMpi &&
      !std::getenv("PMIX_RANK")) {
    throw UsageError(fmt::format(
        "--medium mpi needs MPI's own launcher: mpirun -n {} PROGRAM --medium "
        "mpi",
        launch.world_size));
  }
  load_mpi_transport_library();
}

std::shared_ptr<const CollectiveModel> load_model(const std::string& file) {
  if (file.empty()) {
    return std::make_shared<const CollectiveModel>(CollectiveModel::built_in());
  }
  return std::make_shared<const CollectiveModel>(
      CollectiveModel::from_file(file));
}

DirectGroup connect_direct(const LaunchContext& launch, ProcessGroup& group,
                           const DirectOptions& options) {
  const Bootstrap bootstrap = [&](const std::string& mine) {
    return group.gather_strings(mine);
  };
  NodeOptions nodes;
  nodes.rank = group.rank();
  nodes.size = group.size();
  nodes.timeout = std::chrono::seconds(options.timeout_s);
  const bool mpi = options.medium == "mpi";
  if (!mpi) nodes.medium = medium_from_name(options.medium);
  nodes.cross_memory_attach = options.cross_memory_attach;
  std::map<std::string, int> numbers;
  for (const std::string& node :
       bootstrap(fmt::format("{} {}", launch.host, launch.node_rank))) {
    nodes.nodes.push_back(
        numbers.emplace(node, static_cast<int>(numbers.size())).first->second);
  }
  const auto hosts = bootstrap(launch.host);
  std::vector<std::string> names(numbers.size());
  for (int rank = 0; rank < nodes.size; ++rank) {
    std::string& name = names[nodes.nodes[rank]];
    if (!name.empty()) continue;
    const bool taken = std::count(names.begin(), names.end(), hosts[rank]) > 0;
    name = taken ? fmt::format("{} ({})", hosts[rank], nodes.nodes[rank])
                 : hosts[rank];
  }
  nodes.address = options.interface.empty()
                      ? choose_address(launch, hosts)
                      : address_of_interface(options.interface);
  DirectGroup direct;
  direct.model = options.model ? options.model : load_model("");
  direct.node_names = names;
  Connection connection =
      mpi ? connect_mpi(nodes) : connect_nodes(nodes, bootstrap);
  direct.communicator = std::make_unique<Communicator>(
      std::move(connection.transport), *direct.model);
  direct.description =
      fmt::format("{}, {} rank{} on {} node{}", connection.description,
                  nodes.size, nodes.size == 1 ? "" : "s", numbers.size(),
                  numbers.size() == 1 ? "" : "s");
  return direct;
}

}  // namespace dai::hardware
