// SPDX-License-Identifier: Apache-2.0
#pragma once

// Ranks that reach each other over TCP, on one node or many. Each pair has two
// connections: one for data, one for notes, so that an error message never
// waits behind a gigabyte. Sockets do not block; one thread does everything.
//
//   auto mine = connect_tcp({.rank = 0, .size = 2, .address = "10.0.0.1"},
//                           bootstrap);
//
// A rank publishes its address, its port and a random key through the
// bootstrap; whoever connects without the key is sent away.
//
// Errors: std::runtime_error of one line when the ranks cannot connect within
// the time-out; PeerError later.

#include <memory>
#include <string>

#include "ch02_hardware/transport/channels.h"
#include "ch02_hardware/transport/shared_segment.h"
#include "ch02_hardware/transport/stream_transport.h"

namespace dai::hardware {

struct TcpOptions : TransportOptions {
  int rank = 0;
  int size = 1;
  // Of this node, as the others reach it: a name or a number.
  std::string address = "127.0.0.1";
};

// Collective.
std::unique_ptr<Channels> connect_tcp_channels(const TcpOptions& options,
                                               const Bootstrap& bootstrap);
// `nodes` tells which ranks share a node, by rank; empty: all on one.
std::unique_ptr<Transport> connect_tcp(const TcpOptions& options,
                                       const Bootstrap& bootstrap,
                                       std::vector<int> nodes = {});

}  // namespace dai::hardware
