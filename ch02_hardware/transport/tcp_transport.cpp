// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/transport/tcp_transport.h"

#include <utility>

namespace dai::hardware {
namespace {

struct OwnedChannels {
  std::unique_ptr<Channels> channels;
};

class TcpTransport final : private OwnedChannels, public StreamTransport {
 public:
  TcpTransport(std::unique_ptr<Channels> channels, const TcpOptions& options,
               std::vector<int> nodes)
      : OwnedChannels{std::move(channels)},
        StreamTransport(options.rank, options.size, *OwnedChannels::channels,
                        options),
        nodes_(std::move(nodes)) {}
  ~TcpTransport() override { say_goodbye(); }

  std::string medium() const override { return "tcp"; }
  int node_of(int rank) const override {
    return nodes_.empty() ? 0 : nodes_[rank];
  }

 private:
  const std::vector<int> nodes_;
};

}  // namespace

std::unique_ptr<Transport> connect_tcp(const TcpOptions& options,
                                       const Bootstrap& bootstrap,
                                       std::vector<int> nodes) {
  return std::make_unique<TcpTransport>(
      connect_tcp_channels(options, bootstrap), options, std::move(nodes));
}

}  // namespace dai::hardware
