// SPDX-License-Identifier: Apache-2.0

// The inside of libdai_collectives.so: what common/torch/collectives_library.h
// promises.

#include <fmt/format.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <optional>

#include "ch02_hardware/backend/collective_backend.h"
#include "ch02_hardware/transport/node_transport.h"
#include "common/errors.h"
#include "common/torch/collectives_library.h"

namespace dai {
namespace {

using hardware::Bootstrap;
using hardware::CollectiveModel;

std::string from_environment(const char* name) {
  const char* const value = std::getenv(name);
  return value ? value : "";
}

// Each rank's text under a key of its own; get() waits for it.
Bootstrap bootstrap_through(const c10::intrusive_ptr<::c10d::Store>& store,
                            int rank, int size) {
  return [store, rank, size, meeting = 0](const std::string& mine) mutable {
    const auto key = [&](int of) {
      return fmt::format("collectives {}/{}", meeting, of);
    };
    store->set(key(rank), "." + mine);
    std::vector<std::string> all;
    for (int r = 0; r < size; ++r) {
      all.push_back(store->get_to_str(key(r)).substr(1));
    }
    ++meeting;
    return all;
  };
}

struct Environment {
  std::string algorithms;
  // Lives as long as the process: communicators refer to it.
  const CollectiveModel* model = nullptr;
};

// Read once; a file that is wrong is wrong each time.
const Environment& read_environment() {
  static const Environment environment = [] {
    Environment read;
    read.algorithms = from_environment("DAI_ALGORITHM");
    hardware::Communicator::check_names(read.algorithms);
    read.model = &CollectiveModel::built_in();
    const std::string file = from_environment("DAI_COLLECTIVE_MODEL");
    if (file.empty()) return read;
    try {
      read.model = new CollectiveModel(CollectiveModel::from_file(file));
    } catch (const UsageError& error) {
      throw UsageError(fmt::format("DAI_COLLECTIVE_MODEL: {}", error.what()));
    }
    return read;
  }();
  return environment;
}

void check_environment() {
  hardware::medium_from_name(from_environment("DAI_MEDIUM"));
  read_environment();
}

MadeCollectives make_backend(const c10::intrusive_ptr<::c10d::Store>& store,
                             const CollectivesOptions& options) {
  Bootstrap bootstrap = bootstrap_through(store, options.rank, options.size);
  hardware::NodeOptions nodes;
  nodes.rank = options.rank;
  nodes.size = options.size;
  nodes.address = options.address;
  nodes.timeout = options.timeout;
  // Before the ranks do what follows from it, which would not be the same.
  const std::string medium = from_environment("DAI_MEDIUM");
  const auto media = bootstrap(medium);
  for (int rank = 0; rank < options.size; ++rank) {
    if (media[rank] == media[0]) continue;
    throw UsageError(fmt::format(
        "DAI_MEDIUM is '{}' on rank {} and '{}' on rank 0: it must be equal on "
        "all ranks",
        media[rank], rank, media[0]));
  }
  nodes.medium = hardware::medium_from_name(medium);
  std::map<std::string, int> numbers;
  for (const std::string& node : bootstrap(options.node)) {
    nodes.nodes.push_back(
        numbers.emplace(node, static_cast<int>(numbers.size())).first->second);
  }
  hardware::Connection connection = connect_nodes(nodes, bootstrap);
  auto group = std::make_unique<hardware::Communicator>(
      std::move(connection.transport), *read_environment().model);
  group->insist(read_environment().algorithms);
  auto messages = std::make_unique<hardware::MessageEngine>(
      options.rank, options.size,
      connect_node_channels(nodes, bootstrap, nullptr), options.timeout);
  return {
      c10::make_intrusive<hardware::CollectiveBackend>(
          options.rank, options.size, std::move(group), std::move(messages)),
      connection.description};
}

}  // namespace

extern "C" const CollectivesLibrary* dai_collectives_library() {
  static const CollectivesLibrary library{check_environment, make_backend};
  return &library;
}

}  // namespace dai
