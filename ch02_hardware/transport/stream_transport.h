// SPDX-License-Identifier: Apache-2.0
#pragma once

// The half of a Transport that is the same on every medium: moving several
// messages at once, checking that all ranks called the same, waiting without
// burning a core for long, and finding out who is to blame when nothing moves.
// The medium itself is behind Channels (channels.h).
//
// Waiting: spins for a while, then parks in the kernel. When nothing has moved
// for the time-out, less a grace of at most a second, a rank asks all others
// whether they are alive; who is waiting as well answers. At the time-out the
// blame falls on who did not. The first rank that knows tells all others, so
// that survivors name the same rank.

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ch02_hardware/transport/channels.h"
#include "ch02_hardware/transport/note.h"
#include "ch02_hardware/transport/transport.h"

namespace dai::hardware {

struct TransportOptions {
  std::chrono::milliseconds timeout{60000};  // without any progress
  // Ranks that share this node's cores: more than there are must not spin.
  int ranks_on_node = 1;
};

class StreamTransport : public Transport {
 public:
  int rank() const final { return rank_; }
  int size() const final { return size_; }
  void begin(const Call& call) final;
  void wait_for_all() final;
  void exchange(std::span<const Outgoing> outgoing,
                std::span<const Incoming> incoming) final;
  using Transport::exchange;

 protected:
  StreamTransport(int rank, int size, Channels& channels,
                  const TransportOptions& options);
  // For destructors, while the channels still exist.
  void say_goodbye() noexcept;

  // What the peer said in its last kCall, after wait_for_all().
  const Note& call_of(int peer) const {
    return peer == rank_ ? mine_ : peers_[peer].call;
  }
  std::uint64_t sequence() const { return sequence_; }
  // Tells all ranks, throws PeerError, and is of no use afterwards.
  [[noreturn]] void fail(Fault fault, std::vector<int> culprits);
  // Turns the wheel while a condition of the medium's own is waited for, in
  // which `waiting_for` has to move.
  void idle(int waiting_for);
  void moved() {
    if (idle_rounds_ != 0) reset_idle();
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Peer {
    std::uint64_t heard = 0;    // the last collective it has begun
    Note call;                  // and what that was
    std::optional<Note> ahead;  // the one after mine
    bool alive = false;         // answered since we asked
    bool left = false;
    bool suspected = false;  // looked gone, once
  };
  bool all_heard();
  void read_notes(int peer);
  void read_all_notes();
  void heard_call(int peer, const Note& note);
  bool receive_some(const Incoming& in, std::size_t& done);
  void reset_idle();
  void look_for_the_dead(int waiting_for);
  [[noreturn]] void give_verdict(int waiting_for);
  [[noreturn]] void give_up(const std::vector<int>& culprits, Fault fault,
                            const std::string& said);
  std::string name_of_call() const;
  std::string said_of(Fault fault, const std::vector<int>& culprits) const;

  const int rank_, size_;
  Channels& channels_;
  const std::chrono::milliseconds timeout_;
  const bool shares_core_;  // more ranks on this node than cores
  const int spins_;
  std::uint64_t sequence_ = 0;
  Note mine_;
  std::vector<PairBytes> pairs_;  // of the last pairwise call
  std::vector<Peer> peers_;
  bool heard_all_ = true;
  std::string broken_;
  int broken_by_ = -1;

  int idle_rounds_ = 0;
  std::uint32_t rounds_ = 0;
  bool asked_ = false;
  bool suspected_ = false;  // any of them
  std::optional<Clock::time_point> idle_since_;
  Clock::time_point looked_at_;
  std::vector<std::size_t> sent_, received_;  // bytes, of this exchange
};

// A Transport of any medium that is nothing more than its channels. `nodes`
// tells which ranks share a node, by rank; empty: all on one.
std::unique_ptr<Transport> transport_over(std::unique_ptr<Channels> channels,
                                          int rank, int size,
                                          std::string medium,
                                          std::vector<int> nodes,
                                          const TransportOptions& options);

}  // namespace dai::hardware
