// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/compare/tcp_meter.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>
#include <filesystem>
#include <string>

#include "common/errors.h"

namespace dai::ddp {

std::int64_t tcp_bytes_sent() {
  std::int64_t bytes = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/self/fd")) {
    const int fd = std::stoi(entry.path().filename().string());
    tcp_info info{};
    socklen_t length = sizeof info;
    // Fails for what is no TCP connection.
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) continue;
    if (length < offsetof(tcp_info, tcpi_bytes_retrans) + 8) {
      throw Unavailable("this kernel's TCP_INFO does not count bytes");
    }
    bytes += static_cast<std::int64_t>(info.tcpi_bytes_sent -
                                       info.tcpi_bytes_retrans);
  }
  return bytes;
}

}  // namespace dai::ddp
