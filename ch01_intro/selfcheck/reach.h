// SPDX-License-Identifier: Apache-2.0
#pragma once

// Can the ranks reach each other? Names, addresses, and round trips over
// sockets of our own, before any library tries the same and hangs in it.
//
//   EchoServer server("10.0.0.7");                  // on every rank
//   auto found = ping_peers({{1, "10.0.0.8", 40112, token}}, options);
//   if (!found[0].error.empty()) ...                // "timed out after 2 s"
//
// Wire, after the server's token of 8 bytes, which keeps strangers out: 'p' +
// 63 bytes are sent back as they are; 't' is answered by the wall clock (8
// bytes, microseconds since 1970, this machine's byte order); 'b' + a length of
// 4 bytes + that many bytes by one byte 'k'. One thread a connection; no torch.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <list>
#include <string>
#include <thread>
#include <vector>

#include "ch01_intro/selfcheck/host_facts.h"
#include "common/launch_context.h"

namespace dai::intro {

struct Resolved {
  std::vector<std::string> addresses;  // numeric; empty: it failed
  std::string error;                   // "Name or service not known"
};

// Never blocks longer than `limit`, even where the resolver does (its thread is
// then left behind). With `patient`, asks again until then while the answer is
// "no": in a cluster a name can come up after those who ask for it.
Resolved resolve_name(const std::string& name, std::chrono::milliseconds limit,
                      bool patient = false);

bool is_loopback_address(const std::string& address);

// The address at which this rank's peers can reach it: that of `interface`;
// loopback on one node; else that of the route to the master. Throws UsageError
// naming the interfaces there are.
std::string choose_own_address(const LaunchContext& launch,
                               const std::string& interface,
                               const std::vector<std::string>& master,
                               const std::vector<Link>& links);

// Answers until destroyed. Throws std::runtime_error when it cannot listen.
class EchoServer {
 public:
  explicit EchoServer(const std::string& address);
  ~EchoServer();
  EchoServer(const EchoServer&) = delete;
  EchoServer& operator=(const EchoServer&) = delete;
  int port() const { return port_; }
  std::uint64_t token() const { return token_; }

 private:
  void accept_all();
  void serve(int fd) const;
  std::uint64_t token_;
  int fd_ = -1;
  int port_ = 0;
  std::atomic<bool> closing_{false};
  std::list<std::pair<int, std::thread>> connections_;  // of accept_all alone
  std::thread acceptor_;
};

struct Peer {
  int rank = 0;
  std::string address;
  int port = 0;
  std::uint64_t token = 0;
};

struct PingOptions {
  std::chrono::milliseconds limit{2000};  // of a connection or an answer
  int pings = 20;
  int bulk_bytes = 1 << 20;
};

struct PeerPing {
  int rank = 0;
  std::string error;     // empty: reached
  double rtt_us = -1;    // median of 64-byte round trips
  double mb_per_s = -1;  // one way, 10^6 bytes, the acknowledgement included
  // The peer's wall clock minus ours, and the bound of that figure's error.
  double clock_offset_us = 0;
  double clock_error_us = 0;
};

// Connects to all peers at once, then measures them one by one, in the given
// order. Never throws for a peer's fault.
std::vector<PeerPing> ping_peers(const std::vector<Peer>& peers,
                                 const PingOptions& options);

}  // namespace dai::intro
