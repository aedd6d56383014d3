// SPDX-License-Identifier: Apache-2.0
// EchoServer and ping_peers of reach.h.
#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <stdexcept>
#include <system_error>

#include "ch01_intro/selfcheck/reach.h"
#include "ch01_intro/statistics/statistics.h"
#include "common/timer.h"
#include "common/trace.h"

namespace dai::intro {
namespace {

using std::chrono::milliseconds;
constexpr int kPingBytes = 64;
constexpr int kClockSamples = 16;
constexpr int kOnePacketBytes = 8192;

std::string message_of(int error) {
  return std::generic_category().message(error);
}

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

Address numeric(const std::string& host, int port) {
  addrinfo hints{}, *list = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  Address out;
  if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list) !=
      0) {
    throw std::runtime_error(fmt::format("'{}' is no address", host));
  }
  std::memcpy(&out.storage, list->ai_addr, list->ai_addrlen);
  out.length = list->ai_addrlen;
  freeaddrinfo(list);
  return out;
}

bool send_all(int fd, const void* data, std::size_t bytes) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t sent = send(fd, at, bytes, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    at += sent, bytes -= static_cast<std::size_t>(sent);
  }
  return true;
}

bool receive_all(int fd, void* data, std::size_t bytes) {
  char* at = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t got = recv(fd, at, bytes, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) errno = ECONNRESET;
    if (got <= 0) return false;
    at += got, bytes -= static_cast<std::size_t>(got);
  }
  return true;
}

void set_limits(int fd, milliseconds limit) {
  const timeval time{limit.count() / 1000, limit.count() % 1000 * 1000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

std::int64_t wall_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string why(const char* what, milliseconds limit) {
  return errno == EAGAIN || errno == EWOULDBLOCK
             ? fmt::format("{}: timed out after {} s", what,
                           limit.count() / 1e3)
             : fmt::format("{}: {}", what, message_of(errno));
}

// The questions to one peer over a connection that stands.
void measure(int fd, std::uint64_t token, const PingOptions& options,
             PeerPing& out) {
  unsigned char ping[kPingBytes] = {'p'}, echo[kPingBytes];
  for (int i = 1; i < kPingBytes; ++i) ping[i] = static_cast<unsigned char>(i);
  std::vector<double> round_trips;
  bool ok = send_all(fd, &token, sizeof token);
  for (int i = 0; ok && i < options.pings; ++i) {
    const double begin = steady_us();
    ok = send_all(fd, ping, sizeof ping) && receive_all(fd, echo, sizeof echo);
    round_trips.push_back(steady_us() - begin);
    if (ok && std::memcmp(ping, echo, sizeof ping) != 0) {
      out.error = "small messages come back changed";
      return;
    }
  }
  std::vector<ClockSample> samples;
  for (int i = 0; ok && i < kClockSamples; ++i) {
    std::int64_t remote = 0;
    ClockSample sample;
    sample.send_us = steady_us();
    ok = send_all(fd, "t", 1) && receive_all(fd, &remote, sizeof remote);
    sample.receive_us = steady_us();
    // Both in one scale: this host's wall clock counts from its steady one.
    sample.remote_us = static_cast<double>(remote);
    samples.push_back(sample);
  }
  if (!ok) {
    out.error = why("connected, but small messages fail", options.limit);
    return;
  }
  const double own_offset = static_cast<double>(wall_us()) - steady_us();
  const ClockOffset clock = estimate_clock_offset(samples);
  out.clock_offset_us = clock.offset_us - own_offset;
  out.clock_error_us = clock.max_error_us + 1;  // whole microseconds are sent
  // First a block that fits one jumbo packet, then the timed one: a card that
  // segments by itself hides lost packets from large blocks.
  for (const int size : {kOnePacketBytes, options.bulk_bytes}) {
    const auto bytes = static_cast<std::uint32_t>(size);
    const std::vector<char> block(bytes, 'x');
    char answer = 0;
    const double begin = steady_us();
    if (!send_all(fd, "b", 1) || !send_all(fd, &bytes, sizeof bytes) ||
        !send_all(fd, block.data(), bytes) || !receive_all(fd, &answer, 1)) {
      const std::string what = fmt::format(
          "small messages pass, {} bytes do not (packets of full size are "
          "lost: an MTU that differs on the way?)",
          bytes);
      out.error = why(what.c_str(), options.limit);
      return;
    }
    out.mb_per_s = bytes / (steady_us() - begin);
  }
  out.rtt_us = median(round_trips);
}

}  // namespace

EchoServer::EchoServer(const std::string& address) {
  std::random_device random;
  token_ = std::uint64_t{random()} << 32 | random();
  Address own = numeric(address, 0);
  fd_ = socket(own.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd_ < 0 || bind(fd_, own.get(), own.length) != 0 ||
      listen(fd_, 1024) != 0 || getsockname(fd_, own.get(), &own.length) != 0) {
    const std::string error = message_of(errno);
    if (fd_ >= 0) close(fd_);
    throw std::runtime_error(
        fmt::format("cannot listen on {}: {}", address, error));
  }
  // The port is at the same place for IPv4 and IPv6.
  port_ = ntohs(reinterpret_cast<sockaddr_in*>(&own.storage)->sin_port);
  acceptor_ = std::thread([this] { accept_all(); });
}

EchoServer::~EchoServer() {
  closing_ = true;
  shutdown(fd_, SHUT_RDWR);  // wakes accept()
  acceptor_.join();
  close(fd_);
}

void EchoServer::accept_all() {
  while (!closing_) {
    const int fd = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) {
      // Out of descriptors, or a connection that died in the queue.
      if (!closing_) std::this_thread::sleep_for(milliseconds(10));
      continue;
    }
    connections_.emplace_back(fd, std::thread([this, fd] { serve(fd); }));
  }
  for (auto& [fd, thread] : connections_) {
    shutdown(fd, SHUT_RDWR);
    thread.join();
    close(fd);
  }
}

void EchoServer::serve(int fd) const {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  std::uint64_t token = 0;
  if (!receive_all(fd, &token, sizeof token) || token != token_) {
    shutdown(fd, SHUT_RDWR);  // a stranger, a port scanner
    return;
  }
  char kind = 0;
  std::vector<char> block(64 << 10);
  while (receive_all(fd, &kind, 1)) {
    if (kind == 'p') {
      block[0] = kind;
      if (!receive_all(fd, block.data() + 1, kPingBytes - 1)) return;
      if (!send_all(fd, block.data(), kPingBytes)) return;
    } else if (kind == 't') {
      const std::int64_t now = wall_us();
      if (!send_all(fd, &now, sizeof now)) return;
    } else if (kind == 'b') {
      std::uint32_t left = 0;
      if (!receive_all(fd, &left, sizeof left)) return;
      while (left > 0) {
        const auto part = std::min<std::uint32_t>(
            left, static_cast<std::uint32_t>(block.size()));
        if (!receive_all(fd, block.data(), part)) return;
        left -= part;
      }
      if (!send_all(fd, "k", 1)) return;
    } else {
      return;
    }
  }
}

std::vector<PeerPing> ping_peers(const std::vector<Peer>& peers,
                                 const PingOptions& options) {
  std::vector<PeerPing> out(peers.size());
  std::vector<pollfd> waiting(peers.size(), pollfd{-1, POLLOUT, 0});
  for (std::size_t i = 0; i < peers.size(); ++i) {
    out[i].rank = peers[i].rank;
    try {
      Address to = numeric(peers[i].address, peers[i].port);
      waiting[i].fd = socket(to.storage.ss_family,
                             SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      if (waiting[i].fd < 0 || (connect(waiting[i].fd, to.get(), to.length) &&
                                errno != EINPROGRESS)) {
        out[i].error = fmt::format("cannot connect: {}", message_of(errno));
      }
    } catch (const std::runtime_error& e) {
      out[i].error = e.what();
    }
  }
  // All at once, so that many dead peers cost one limit and not many.
  const double deadline = steady_us() + 1e3 * options.limit.count();
  std::vector<bool> done(peers.size(), false);
  while (true) {
    std::vector<pollfd> open = waiting;
    bool any = false;
    for (std::size_t i = 0; i < open.size(); ++i) {
      if (done[i] || !out[i].error.empty()) open[i].fd = -1;
      any |= open[i].fd >= 0;
    }
    const double left_ms = (deadline - steady_us()) / 1e3;
    if (!any || left_ms <= 0) break;
    poll(open.data(), open.size(), static_cast<int>(left_ms) + 1);
    for (std::size_t i = 0; i < open.size(); ++i) {
      if (open[i].fd < 0 || open[i].revents == 0) continue;
      int error = 0;
      socklen_t length = sizeof error;
      getsockopt(open[i].fd, SOL_SOCKET, SO_ERROR, &error, &length);
      done[i] = true;
      if (error != 0) {
        out[i].error = fmt::format("cannot connect: {}", message_of(error));
      }
    }
  }
  for (std::size_t i = 0; i < peers.size(); ++i) {
    if (out[i].error.empty() && !done[i]) {
      out[i].error = fmt::format("cannot connect: timed out after {} s",
                                 options.limit.count() / 1e3);
    }
    if (out[i].error.empty()) {
      fcntl(waiting[i].fd, F_SETFL, 0);  // blocking again, with limits
      set_limits(waiting[i].fd, options.limit);
    }
  }
  for (std::size_t i = 0; i < peers.size(); ++i) {
    if (out[i].error.empty())
      measure(waiting[i].fd, peers[i].token, options, out[i]);
  }
  for (const pollfd& one : waiting) {
    if (one.fd >= 0) close(one.fd);
  }
  return out;
}

}  // namespace dai::intro
