// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/compare/tcp_meter.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

namespace dai::ddp {
namespace {

// Both ends of a TCP connection on loopback.
class Pair {
 public:
  Pair() {
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    socklen_t length = sizeof address;
    EXPECT_EQ(bind(listener, any, length), 0);
    EXPECT_EQ(listen(listener, 1), 0);
    EXPECT_EQ(getsockname(listener, any, &length), 0);
    from_ = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(connect(from_, any, length), 0);
    to_ = accept(listener, nullptr, nullptr);
    close(listener);
  }
  ~Pair() {
    close(from_);
    close(to_);
  }
  // Returns when it has arrived.
  void send_bytes(std::size_t bytes) const {
    const std::string data(bytes, 'x');
    EXPECT_EQ(send(from_, data.data(), bytes, 0), std::ssize(data));
    std::string got(bytes, ' ');
    EXPECT_EQ(recv(to_, got.data(), bytes, MSG_WAITALL), std::ssize(data));
  }

 private:
  int from_ = -1, to_ = -1;
};

TEST(TcpMeter, CountsEveryByteOfEveryConnection) {
  const Pair one, other;
  const std::int64_t before = tcp_bytes_sent();
  one.send_bytes(10'000);
  EXPECT_EQ(tcp_bytes_sent() - before, 10'000);
  other.send_bytes(77);
  one.send_bytes(1);
  EXPECT_EQ(tcp_bytes_sent() - before, 10'078);
}

TEST(TcpMeter, OtherSocketsCountNothing) {
  int both[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, both), 0);
  const std::int64_t before = tcp_bytes_sent();
  EXPECT_EQ(write(both[0], "unix", 4), 4);
  EXPECT_EQ(tcp_bytes_sent(), before);
  close(both[0]);
  close(both[1]);
}

}  // namespace
}  // namespace dai::ddp
