// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a medium has to offer: a stream of bytes and a stream of notes to and
// from each rank, without ever waiting, and a way to sleep until there is news.
// StreamTransport (stream_transport.h) makes a Transport of it.

#include <chrono>
#include <cstddef>
#include <span>

#include "ch02_hardware/transport/note.h"

namespace dai::hardware {

class Channels {
 public:
  virtual ~Channels() = default;

  // Bytes, as many as go at once, maybe none. The next call for that rank
  // offers the rest, from where this one stopped.
  virtual std::size_t try_send(int to, const std::byte* data,
                               std::size_t bytes) = 0;
  virtual std::size_t try_receive(int from, std::byte* data,
                                  std::size_t bytes) = 0;
  // Up to `most` bytes that have come, in place; consume() takes them away.
  virtual std::span<const std::byte> peek(int from, std::size_t most) = 0;
  virtual void consume(int from, std::size_t bytes) = 0;
  // A message starts: a medium may align it.
  virtual void start_outgoing(int /*to*/) {}
  virtual void start_incoming(int /*from*/) {}

  // False: there is no room now.
  virtual bool post(int to, const Note& note) = 0;
  virtual bool take(int from, Note& note) = 0;
  // Whether that rank's process, or the way to it, is gone.
  virtual bool dead(int peer) = 0;
  // Asked of a rank that has said goodbye: whether all that it ever sent has
  // come. Where notes travel beside the data, a goodbye may overtake it.
  virtual bool drained(int /*from*/) { return true; }

  // Sleeps until there may be news, at most so long. The first call after
  // unpark() may return at once, to let the caller look again.
  virtual void park(std::chrono::milliseconds limit) = 0;
  virtual void unpark() {}
  // From another thread: ends a park(), the one under way or the next.
  virtual void interrupt() = 0;
  // Empty looks that cost about as much as going to sleep and being woken.
  virtual int spins() const = 0;
};

}  // namespace dai::hardware
