// SPDX-License-Identifier: Apache-2.0
#pragma once

// An agent's side of the rendezvous (protocol: rendezvous_server.h): connects,
// trying again until --join-timeout-s, joins, keeps the heartbeat, and hands
// each message of the server on as it comes.
//
//   RendezvousClient client(loop, options, host, port, {on_message, on_lost});
//   client.send({{"type", "done"}, {"attempt", 0}});
//
// Errors do not throw, they arrive in on_lost as one line: never connected,
// refused, silent longer than --heartbeat-s, gone. After that nothing more
// arrives.

#include <functional>
#include <memory>
#include <string>

#include "common/launch/event_loop.h"
#include "common/launch/line_socket.h"
#include "common/launch/options.h"

namespace dai::launch {

class RendezvousClient {
 public:
  using Json = LineSocket::Json;
  struct Handlers {
    std::function<void(const Json&)> on_message;
    std::function<void(const std::string& why)> on_lost;
  };

  RendezvousClient(EventLoop& loop, const LaunchOptions& options,
                   std::string host, int port, Handlers handlers);
  ~RendezvousClient();

  void send(const Json& message);
  void close();
  // This end's address on the way to the server: others can reach it too.
  std::string local_address() const;

 private:
  void try_connect();
  void on_message(const Json& message);
  void lose(const std::string& why);
  void beat();

  EventLoop& loop_;
  const LaunchOptions options_;
  const std::string host_;
  const int port_;
  Handlers handlers_;
  std::unique_ptr<LineSocket> socket_;
  bool joined_ = false;
  EventLoop::Clock::time_point give_up_;
  EventLoop::Clock::time_point last_heard_;
  EventLoop::TimerId timer_ = 0;
};

}  // namespace dai::launch
