// SPDX-License-Identifier: Apache-2.0
#pragma once

// The few socket calls the launcher needs, IPv4 and IPv6 alike, with errors
// that name what was asked for.
//
//   UniqueFd listener = listen_on("127.0.0.1", 0);
//   UniqueFd client = connect_to("127.0.0.1", local_port(listener.get()),
//                                std::chrono::seconds(1));
//
// Throws std::system_error (its code tells "in use" from "not mine") or
// std::runtime_error when a name cannot be resolved.

#include <chrono>
#include <string>
#include <utility>

namespace dai::launch {

// Closes its descriptor, once.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void reset();

 private:
  int fd_ = -1;
};

// All descriptors made here are close-on-exec and non-blocking.

// Binds the first address of `host` that belongs to this machine; an empty
// host means every interface. Port 0 means any free port.
UniqueFd listen_on(const std::string& host, int port);

// Waits at most `limit` for the connection (name resolution comes on top).
UniqueFd connect_to(const std::string& host, int port,
                    std::chrono::milliseconds limit);

int local_port(int fd);
std::string local_address(int fd);  // numeric
std::string peer_address(int fd);   // numeric
bool is_loopback(const std::string& numeric_address);

// "host:port", with brackets where host is an IPv6 address.
std::string endpoint_name(const std::string& host, int port);

void set_non_blocking(int fd);
std::string host_name();

// "Address already in use" and the like, without errno's number.
std::string error_text(int error);

}  // namespace dai::launch
