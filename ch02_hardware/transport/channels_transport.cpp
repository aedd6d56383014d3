// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "ch02_hardware/transport/stream_transport.h"

namespace dai::hardware {
namespace {

// Made before StreamTransport, which refers to it.
struct OwnedChannels {
  std::unique_ptr<Channels> channels;
};

class ChannelsTransport final : private OwnedChannels, public StreamTransport {
 public:
  ChannelsTransport(std::unique_ptr<Channels> channels, int rank, int size,
                    std::string medium, std::vector<int> nodes,
                    const TransportOptions& options)
      : OwnedChannels{std::move(channels)},
        StreamTransport(rank, size, *OwnedChannels::channels, options),
        medium_(std::move(medium)),
        nodes_(std::move(nodes)) {}
  ~ChannelsTransport() override { say_goodbye(); }

  std::string medium() const override { return medium_; }
  int node_of(int rank) const override {
    return nodes_.empty() ? 0 : nodes_[rank];
  }

 private:
  const std::string medium_;
  const std::vector<int> nodes_;
};

}  // namespace

std::unique_ptr<Transport> transport_over(std::unique_ptr<Channels> channels,
                                          int rank, int size,
                                          std::string medium,
                                          std::vector<int> nodes,
                                          const TransportOptions& options) {
  return std::make_unique<ChannelsTransport>(std::move(channels), rank, size,
                                             std::move(medium),
                                             std::move(nodes), options);
}

}  // namespace dai::hardware
