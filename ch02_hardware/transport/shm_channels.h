// SPDX-License-Identifier: Apache-2.0
#pragma once

// Channels through a SharedSegment: each pair of ranks has a ring of bytes and
// a ring of notes in each direction. One copy into the ring; out of it another,
// or the addition itself.

#include <memory>
#include <vector>

#include "ch02_hardware/transport/channels.h"
#include "ch02_hardware/transport/shared_segment.h"

namespace dai::hardware {

// Wakes that rank if it sleeps in ShmChannels::park().
void ring_bell(Door& door);

class ShmChannels final : public Channels {
 public:
  ShmChannels(int rank, std::shared_ptr<SharedSegment> segment);

  std::size_t try_send(int to, const std::byte* data,
                       std::size_t bytes) override;
  std::size_t try_receive(int from, std::byte* data,
                          std::size_t bytes) override;
  std::span<const std::byte> peek(int from, std::size_t most) override;
  void consume(int from, std::size_t bytes) override;
  void start_outgoing(int to) override;
  void start_incoming(int from) override;
  bool post(int to, const Note& note) override;
  bool take(int from, Note& note) override;
  bool dead(int peer) override { return !segment_->alive(peer); }
  void park(std::chrono::milliseconds limit) override;
  void unpark() override;
  void interrupt() override;
  int spins() const override { return 4000; }

 private:
  // This rank's ends of its two lanes with one peer. What the other end has
  // done is looked up only when what we know of it no longer suffices.
  struct Ends {
    Lane* out = nullptr;
    std::byte* out_bytes = nullptr;
    std::uint64_t written = 0, read_by_peer = 0;
    std::size_t next_cell_out = 0;
    Lane* in = nullptr;
    std::byte* in_bytes = nullptr;
    std::uint64_t read = 0, written_by_peer = 0;
    std::size_t next_cell_in = 0;
  };

  const std::shared_ptr<SharedSegment> segment_;
  Door& door_;
  std::vector<Ends> ends_;
  bool parked_ = false;
  std::uint32_t bell_ = 0;
};

}  // namespace dai::hardware
