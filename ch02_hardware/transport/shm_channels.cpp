// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/transport/shm_channels.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <ctime>

#include "ch02_hardware/reduction/combine.h"

// All loads and stores are sequentially consistent (on x86-64 loads cost
// nothing for it): "I wrote, is he asleep?" and "I go to sleep, has he
// written?" must not both be answered by no.

namespace dai::hardware {
namespace {

// A piece is copied in, then shown to the reader: so both are busy at once.
constexpr std::size_t kPiece = 32768;

// Not FUTEX_PRIVATE: several processes map the word.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t seen,
                std::chrono::milliseconds limit) {
  const timespec time{limit.count() / 1000, limit.count() % 1000 * 1000000};
  syscall(SYS_futex, &word, FUTEX_WAIT, seen, &time, nullptr, 0);
}
void futex_wake(std::atomic<std::uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

std::uint64_t next_line(std::uint64_t position) {
  return (position + kCacheLine - 1) / kCacheLine * kCacheLine;
}

}  // namespace

void ring_bell(Door& door) {
  if (door.parked.load() == 0) return;
  door.bell.fetch_add(1);
  futex_wake(door.bell);
}

ShmChannels::ShmChannels(int rank, std::shared_ptr<SharedSegment> segment)
    : segment_(std::move(segment)),
      door_(segment_->door(rank)),
      ends_(segment_->ranks()) {
  for (int peer = 0; peer < segment_->ranks(); ++peer) {
    if (peer == rank) continue;  // it sends itself nothing
    ends_[peer].out = &segment_->lane(rank, peer);
    ends_[peer].out_bytes = segment_->lane_bytes(rank, peer);
    ends_[peer].in = &segment_->lane(peer, rank);
    ends_[peer].in_bytes = segment_->lane_bytes(peer, rank);
  }
}

std::size_t ShmChannels::try_send(int to, const std::byte* data,
                                  std::size_t bytes) {
  Ends& ends = ends_[to];
  const std::size_t size = segment_->lane_size();
  // The start of a message may lie beyond a lane that is full: then there is
  // less than no room.
  const auto room_left = [&] {
    const std::uint64_t used = ends.written - ends.read_by_peer;
    return used < size ? static_cast<std::size_t>(size - used) : 0;
  };
  std::size_t room = room_left();
  if (room < std::min(bytes, kPiece)) {
    ends.read_by_peer = ends.out->read.load();
    room = room_left();
  }
  const std::size_t at = ends.written % size;
  std::size_t n = std::min({bytes, room, kPiece, size - at});
  // Lines stay whole, so that no element is ever cut in two.
  if (n < bytes) n = n / kCacheLine * kCacheLine;
  if (n == 0) return 0;
  copy_piece(ends.out_bytes + at, data, n);
  ends.written += n;
  ends.out->written.store(ends.written);
  ring_bell(segment_->door(to));
  return n;
}

// Messages start at a line of their own.
void ShmChannels::start_outgoing(int to) {
  ends_[to].written = next_line(ends_[to].written);
}
void ShmChannels::start_incoming(int from) {
  ends_[from].read = next_line(ends_[from].read);
}

std::span<const std::byte> ShmChannels::peek(int from, std::size_t most) {
  Ends& ends = ends_[from];
  if (ends.written_by_peer <= ends.read) {
    ends.written_by_peer = ends.in->written.load();
    if (ends.written_by_peer <= ends.read) return {};
  }
  const std::size_t size = segment_->lane_size();
  const std::size_t at = ends.read % size;
  const std::size_t come = ends.written_by_peer - ends.read;
  return {ends.in_bytes + at, std::min({most, come, kPiece, size - at})};
}

void ShmChannels::consume(int from, std::size_t bytes) {
  ends_[from].read += bytes;
  ends_[from].in->read.store(ends_[from].read);
  ring_bell(segment_->door(from));
}

std::size_t ShmChannels::try_receive(int from, std::byte* data,
                                     std::size_t bytes) {
  const auto come = peek(from, bytes);
  if (come.empty()) return 0;
  copy_piece(data, come.data(), come.size());
  consume(from, come.size());
  return come.size();
}

bool ShmChannels::post(int to, const Note& note) {
  Ends& ends = ends_[to];
  Lane::Cell& cell = ends.out->cells[ends.next_cell_out % Lane::kCells];
  if (cell.full.load() != 0) return false;
  cell.note = note;
  cell.full.store(1);
  ++ends.next_cell_out;
  ring_bell(segment_->door(to));
  return true;
}

bool ShmChannels::take(int from, Note& note) {
  Ends& ends = ends_[from];
  Lane::Cell& cell = ends.in->cells[ends.next_cell_in % Lane::kCells];
  if (cell.full.load() == 0) return false;
  note = cell.note;
  cell.full.store(0);
  ++ends.next_cell_in;
  return true;
}

// First says that it is going to sleep, and lets the caller look once more;
// sleeps the next time, unless the bell rang in between.
void ShmChannels::park(std::chrono::milliseconds limit) {
  if (!parked_) {
    parked_ = true;
    bell_ = door_.bell.load();
    door_.parked.store(1);
    return;
  }
  if (limit.count() > 0) futex_wait(door_.bell, bell_, limit);
  bell_ = door_.bell.load();
}

void ShmChannels::unpark() {
  if (!parked_) return;
  parked_ = false;
  door_.parked.store(0);
}

// Rings whether anybody sleeps or not: park() compares the bell's number.
void ShmChannels::interrupt() {
  door_.bell.fetch_add(1);
  futex_wake(door_.bell);
}

}  // namespace dai::hardware
