// SPDX-License-Identifier: Apache-2.0
#include "common/launch/net.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <stdexcept>
#include <system_error>

namespace dai::launch {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Addresses resolve(const std::string& host, int port, bool passive) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.empty() ? nullptr : host.c_str(),
                                std::to_string(port).c_str(), &hints, &found);
  if (error != 0) {
    throw std::runtime_error(
        fmt::format("cannot resolve {}: {}", host, gai_strerror(error)));
  }
  return {found, &freeaddrinfo};
}

UniqueFd make_socket(const addrinfo& address) {
  return UniqueFd(
      socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

[[noreturn]] void fail(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), what);
}

using NameCall = int (*)(int, sockaddr*, socklen_t*);

sockaddr_storage name_of(NameCall call, int fd) {
  sockaddr_storage name{};
  socklen_t size = sizeof(name);
  if (call(fd, reinterpret_cast<sockaddr*>(&name), &size) != 0) {
    fail(errno, "socket address");
  }
  return name;
}

std::string numeric(const sockaddr_storage& name) {
  std::array<char, NI_MAXHOST> text{};
  const int error =
      getnameinfo(reinterpret_cast<const sockaddr*>(&name), sizeof(name),
                  text.data(), text.size(), nullptr, 0, NI_NUMERICHOST);
  return error == 0 ? text.data() : "?";
}

// Completes a non-blocking connect(); returns 0 or an errno value.
int finish_connect(int fd, std::chrono::milliseconds limit) {
  pollfd wait{fd, POLLOUT, 0};
  const int ready = poll(&wait, 1, static_cast<int>(limit.count()));
  if (ready == 0) return ETIMEDOUT;
  if (ready < 0) return errno;
  int error = 0;
  socklen_t size = sizeof(error);
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

}  // namespace

void UniqueFd::reset() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

UniqueFd listen_on(const std::string& host, int port) {
  const Addresses addresses = resolve(host, port, /*passive=*/true);
  int error = 0;
  for (const addrinfo* a = addresses.get(); a != nullptr; a = a->ai_next) {
    UniqueFd fd = make_socket(*a);
    const int on = 1;
    // A restart binds the port of the group that just ended.
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd && bind(fd.get(), a->ai_addr, a->ai_addrlen) == 0 &&
        listen(fd.get(), SOMAXCONN) == 0) {
      return fd;
    }
    // "In use" says more than "no IPv6 here", whichever came last.
    if (error != EADDRINUSE) error = errno;
  }
  fail(error, "listen on " + endpoint_name(host, port));
}

UniqueFd connect_to(const std::string& host, int port,
                    std::chrono::milliseconds limit) {
  const Addresses addresses = resolve(host, port, /*passive=*/false);
  int error = 0;
  for (const addrinfo* a = addresses.get(); a != nullptr; a = a->ai_next) {
    UniqueFd fd = make_socket(*a);
    if (!fd) {
      error = errno;
      continue;
    }
    error = connect(fd.get(), a->ai_addr, a->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) error = finish_connect(fd.get(), limit);
    if (error != 0) continue;
    const int on = 1;
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
  }
  fail(error, "connect to " + endpoint_name(host, port));
}

int local_port(int fd) {
  const sockaddr_storage name = name_of(getsockname, fd);
  // The port sits at the same place in both families.
  return ntohs(reinterpret_cast<const sockaddr_in*>(&name)->sin_port);
}

std::string local_address(int fd) {
  return numeric(name_of(getsockname, fd));
}

std::string peer_address(int fd) {
  return numeric(name_of(getpeername, fd));
}

bool is_loopback(const std::string& numeric_address) {
  return numeric_address.starts_with("127.") || numeric_address == "::1";
}

std::string endpoint_name(const std::string& host, int port) {
  const bool ipv6 = host.find(':') != std::string::npos;
  return ipv6 ? fmt::format("[{}]:{}", host, port)
              : fmt::format("{}:{}", host.empty() ? "*" : host, port);
}

void set_non_blocking(int fd) {
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "?";
}

std::string error_text(int error) {
  return std::generic_category().message(error);
}

}  // namespace dai::launch
