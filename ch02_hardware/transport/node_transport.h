// SPDX-License-Identifier: Apache-2.0
#pragma once

// The transport for real runs: memory between the ranks of a node, TCP between
// nodes, chosen pair by pair.
//
//   NodeOptions options{...};              // rank, size, this node's address
//   options.nodes = {0, 0, 1, 1};          // by rank: who shares a node
//   Connection mine = connect_nodes(options, bootstrap);
//   fmt::print("{}\n", mine.description);  // "shm in 2 nodes, tcp across"
//
// With all ranks on one node it is connect_shm()'s transport, whose ranks see
// each other's memory. Where a node's ranks cannot share memory (containers of
// their own), all of them use TCP, and the description says why.

#include <memory>
#include <string>
#include <vector>

#include "ch02_hardware/transport/shm_transport.h"
#include "ch02_hardware/transport/tcp_transport.h"

namespace dai::hardware {

enum class Medium { kAuto, kShm, kTcp };

// "auto" or nothing, "shm", "tcp". Throws UsageError.
Medium medium_from_name(const std::string& name);

struct NodeOptions : TcpOptions {
  Medium medium = Medium::kAuto;  // kShm: or std::runtime_error
  std::vector<int> nodes;         // [size]
  bool cross_memory_attach = true;
};

struct Connection {
  std::unique_ptr<Transport> transport;
  std::string description;
};

// Collective. The bootstrap is asked equally often on all ranks.
Connection connect_nodes(const NodeOptions& options,
                         const Bootstrap& bootstrap);
// The same without a Transport around it; `description` may be null.
std::unique_ptr<Channels> connect_node_channels(const NodeOptions& options,
                                                const Bootstrap& bootstrap,
                                                std::string* description);

}  // namespace dai::hardware
