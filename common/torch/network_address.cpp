// SPDX-License-Identifier: Apache-2.0
#include "common/torch/network_address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

#include "common/errors.h"
#include "common/log.h"

namespace dai {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

Addresses resolve(const std::string& host, milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  for (bool told = false;; told = true) {
    addrinfo* list = nullptr;
    addrinfo hints{};
    hints.ai_socktype = SOCK_DGRAM;
    const int rc = getaddrinfo(host.c_str(), "9", &hints, &list);
    if (rc == 0) return Addresses(list);
    if (Clock::now() >= deadline) {
      throw UsageError(fmt::format("master address '{}' is not known: {}", host,
                                   gai_strerror(rc)));
    }
    if (!told) {
      spdlog::warn("master address '{}' is not known yet ({}); trying for {} s",
                   host, gai_strerror(rc), timeout.count() / 1000);
    }
    std::this_thread::sleep_for(
        std::min<Clock::duration>(milliseconds(500), deadline - Clock::now()));
  }
}

std::string to_text(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN] = "";
  const void* bytes =
      address->sa_family == AF_INET6
          ? static_cast<const void*>(
                &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr)
          : &reinterpret_cast<const sockaddr_in*>(address)->sin_addr;
  inet_ntop(address->sa_family, bytes, text, sizeof(text));
  return text;
}

bool is_loopback(const std::string& address) {
  return address.starts_with("127.") || address == "::1";
}

// "Connecting" a datagram socket sends nothing, but makes the kernel choose
// the interface and source address of the route.
std::string source_address_to(const addrinfo& target) {
  const int fd = socket(target.ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_storage own{};
  socklen_t length = sizeof(own);
  const bool routed =
      fd >= 0 && connect(fd, target.ai_addr, target.ai_addrlen) == 0 &&
      getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length) == 0;
  if (fd >= 0) close(fd);
  return routed ? to_text(reinterpret_cast<const sockaddr*>(&own)) : "";
}

std::string first_outside_address() {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return "";
  std::string found;
  for (const ifaddrs* one = list; one && found.empty(); one = one->ifa_next) {
    if (one->ifa_addr && one->ifa_addr->sa_family == AF_INET &&
        (one->ifa_flags & IFF_UP) && !(one->ifa_flags & IFF_LOOPBACK)) {
      found = to_text(one->ifa_addr);
    }
  }
  freeifaddrs(list);
  return found;
}

// One attempt to connect, of at most a second: a host that drops packets
// would otherwise hold us for minutes.
bool answers(const addrinfo& host, int port, Clock::time_point deadline) {
  sockaddr_storage address{};
  std::memcpy(&address, host.ai_addr, host.ai_addrlen);
  // The port is at the same place for IPv4 and IPv6.
  reinterpret_cast<sockaddr_in*>(&address)->sin_port =
      htons(static_cast<std::uint16_t>(port));
  const int fd =
      socket(host.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  int error = 0;
  socklen_t length = sizeof(error);
  bool ok = connect(fd, reinterpret_cast<const sockaddr*>(&address),
                    host.ai_addrlen) == 0;
  if (!ok && errno == EINPROGRESS) {
    const auto left =
        std::chrono::duration_cast<milliseconds>(std::min<Clock::duration>(
            deadline - Clock::now(), std::chrono::seconds(1)));
    pollfd waiting{fd, POLLOUT, 0};
    ok = poll(&waiting, 1, std::max<int>(0, left.count())) == 1 &&
         getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 &&
         error == 0;
  }
  close(fd);
  return ok;
}

}  // namespace

void wait_for_name(const std::string& host, milliseconds timeout) {
  resolve(host, timeout);
}

bool wait_for_port(const std::string& host, int port, milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  const Addresses addresses = resolve(host, timeout);
  while (true) {
    for (const addrinfo* one = addresses.get(); one; one = one->ai_next) {
      if (answers(*one, port, deadline)) return true;
    }
    if (Clock::now() >= deadline) return false;
    std::this_thread::sleep_for(milliseconds(10));
  }
}

std::string choose_address(const LaunchContext& launch,
                           const std::vector<std::string>& hosts) {
  if (launch.node_count == 1 || launch.master_addr.empty()) return "127.0.0.1";
  const Addresses master = resolve(launch.master_addr, milliseconds(0));
  std::string address = source_address_to(*master);
  const bool one_host =
      std::all_of(hosts.begin(), hosts.end(),
                  [&](const std::string& host) { return host == hosts[0]; });
  // Debian maps a machine's own name to 127.0.1.1: true for the master itself,
  // useless to the other nodes.
  if (is_loopback(address) && !one_host) address = first_outside_address();
  if (address.empty()) {
    throw UsageError(fmt::format(
        "no interface of {} routes to the master {}; name one with --interface",
        launch.host, launch.master_addr));
  }
  return address;
}

std::string address_of_interface(const std::string& interface) {
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) {
    throw std::runtime_error(fmt::format(
        "cannot list interfaces: {}", std::generic_category().message(errno)));
  }
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owned(all,
                                                               freeifaddrs);
  std::string found;
  for (const ifaddrs* one = all; one; one = one->ifa_next) {
    if (!one->ifa_addr || interface != one->ifa_name) continue;
    const int family = one->ifa_addr->sa_family;
    char text[INET6_ADDRSTRLEN] = {};
    if (family == AF_INET) {
      const auto* in = reinterpret_cast<const sockaddr_in*>(one->ifa_addr);
      inet_ntop(family, &in->sin_addr, text, sizeof text);
      return text;
    }
    if (family != AF_INET6 || !found.empty()) continue;
    const auto* in = reinterpret_cast<const sockaddr_in6*>(one->ifa_addr);
    if (IN6_IS_ADDR_LINKLOCAL(&in->sin6_addr)) continue;  // needs a scope
    inet_ntop(family, &in->sin6_addr, text, sizeof text);
    found = text;
  }
  if (!found.empty()) return found;
  throw UsageError(fmt::format(
      "--interface {}: this node has no such address to listen on", interface));
}

}  // namespace dai
