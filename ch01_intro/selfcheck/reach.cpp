// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/selfcheck/reach.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <future>
#include <memory>
#include <mutex>

#include "common/errors.h"

namespace dai::intro {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

Resolved ask_resolver(const std::string& name) {
  addrinfo hints{}, *list = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  Resolved out;
  const int rc = getaddrinfo(name.c_str(), nullptr, &hints, &list);
  if (rc != 0) {
    out.error = gai_strerror(rc);
    return out;
  }
  for (const addrinfo* one = list; one; one = one->ai_next) {
    char text[INET6_ADDRSTRLEN + 16] = "";
    getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof text, nullptr, 0,
                NI_NUMERICHOST);
    out.addresses.emplace_back(text);
  }
  freeaddrinfo(list);
  return out;
}

// "Connecting" a datagram socket sends nothing, but makes the kernel choose
// the interface and the source address of the route.
std::string source_address_to(const std::string& target) {
  addrinfo hints{}, *list = nullptr;
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = AI_NUMERICHOST;
  if (getaddrinfo(target.c_str(), "9", &hints, &list) != 0) return "";
  const int fd = socket(list->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_storage own{};
  socklen_t length = sizeof own;
  char text[INET6_ADDRSTRLEN + 16] = "";
  if (fd >= 0 && connect(fd, list->ai_addr, list->ai_addrlen) == 0 &&
      getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length) == 0) {
    getnameinfo(reinterpret_cast<sockaddr*>(&own), length, text, sizeof text,
                nullptr, 0, NI_NUMERICHOST);
  }
  if (fd >= 0) close(fd);
  freeaddrinfo(list);
  return text;
}

std::string names_of(const std::vector<Link>& links) {
  std::string names;
  for (const Link& link : links) {
    names += fmt::format("{}{}", names.empty() ? "" : ", ", link.name);
  }
  return names;
}

}  // namespace

// The resolver can hang for a minute on a dead name server, and cannot be
// interrupted; hence the thread.
Resolved resolve_name(const std::string& name, milliseconds limit,
                      bool patient) {
  const auto deadline = Clock::now() + limit;
  while (true) {
    auto answer = std::make_shared<std::promise<Resolved>>();
    std::future<Resolved> coming = answer->get_future();
    std::thread([answer, name] {
      answer->set_value(ask_resolver(name));
    }).detach();
    if (coming.wait_until(deadline) != std::future_status::ready) {
      return {{},
              fmt::format("the name server did not answer within {} s",
                          limit.count() / 1e3)};
    }
    Resolved out = coming.get();
    if (!out.addresses.empty() || !patient || Clock::now() >= deadline) {
      return out;
    }
    std::this_thread::sleep_until(
        std::min(deadline, Clock::now() + milliseconds(200)));
  }
}

bool is_loopback_address(const std::string& address) {
  return address.starts_with("127.") || address == "::1";
}

std::string choose_own_address(const LaunchContext& launch,
                               const std::string& interface,
                               const std::vector<std::string>& master,
                               const std::vector<Link>& links) {
  if (!interface.empty()) {
    for (const Link& link : links) {
      if (link.name == interface && !link.address.empty()) return link.address;
    }
    throw UsageError(
        fmt::format("--interface {}: no such interface with an address on {}; "
                    "there are {}",
                    interface, launch.host, names_of(links)));
  }
  if (launch.node_count == 1 || launch.master_addr.empty()) return "127.0.0.1";
  for (const std::string& target : master) {
    const std::string own = source_address_to(target);
    if (own.empty()) continue;
    // "localhost" as master: all nodes are this machine. Any other name that
    // means loopback is rank 0's own, as Debian writes it into /etc/hosts, and
    // useless to the other nodes.
    const bool all_here = launch.master_addr == "localhost" ||
                          is_loopback_address(launch.master_addr);
    if (!is_loopback_address(own) || all_here) return own;
    for (const Link& link : links) {
      if (link.running && !link.loopback && !link.address.empty()) {
        return link.address;
      }
    }
    return own;
  }
  throw UsageError(fmt::format(
      "no interface of {} routes to the master {}; there are {}; name one "
      "with --interface",
      launch.host, launch.master_addr, names_of(links)));
}

}  // namespace dai::intro
