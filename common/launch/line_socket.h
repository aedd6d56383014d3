// SPDX-License-Identifier: Apache-2.0
#pragma once

// JSON messages over a TCP connection, one a line: the wire of the rendezvous.
//
//   {"type":"join","host":"node1","nproc":2, ...}\n
//
// A peer may be anybody who found the port, so nothing it sends can grow our
// memory or throw through us: a line over kMaxLineBytes, a line that is no
// JSON object with a string "type", or a message that the handler rejects by
// throwing, ends the connection and nothing else.
//
//   LineSocket peer(loop, std::move(fd), on_message, on_close);
//   peer.send({{"type", "heartbeat"}});

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "common/launch/event_loop.h"
#include "common/launch/net.h"

namespace dai::launch {

inline constexpr std::size_t kMaxLineBytes = 256 * 1024;

class LineSocket {
 public:
  using Json = nlohmann::json;
  using OnMessage = std::function<void(const Json&)>;
  using OnClose = std::function<void(const std::string& why)>;

  // on_close is called once, when the peer is gone or misbehaved; not after
  // close(). Neither callback may destroy the LineSocket; close() is allowed.
  LineSocket(EventLoop& loop, UniqueFd fd, OnMessage on_message,
             OnClose on_close);
  ~LineSocket();
  LineSocket(const LineSocket&) = delete;
  LineSocket& operator=(const LineSocket&) = delete;

  void send(const Json& message);
  void finish_sending();  // the peer sees the end after the last message
  void close();
  bool is_open() const { return static_cast<bool>(fd_); }
  int fd() const { return fd_.get(); }

 private:
  void on_ready(short events);
  void read_lines();
  void handle(const std::string& line);
  void write_some();
  void watch();
  void drop(const std::string& why);

  EventLoop& loop_;
  UniqueFd fd_;
  OnMessage on_message_;
  OnClose on_close_;
  std::string incoming_;
  std::string outgoing_;
  bool finishing_ = false;
};

}  // namespace dai::launch
