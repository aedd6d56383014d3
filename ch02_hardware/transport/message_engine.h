// SPDX-License-Identifier: Apache-2.0
#pragma once

// Point-to-point messages with tags, any number under way at once: what
// c10d's send() and recv() promise and a Transport, which knows what comes
// next, does not need. A thread of its own moves them.
//
//   MessageEngine engine(rank, size, std::move(channels), timeout);
//   engine.receive(/*from=*/1, /*tag=*/0, data, bytes, done);
//   // done(error or null, source) is called on the engine's thread
//
// On the wire each message follows a header with its tag and its size. A
// message that nobody waits for yet is kept; of two with the same sender and
// tag the first one is received first.
//
// A send is done when its bytes have left the caller's memory. Errors:
// PeerError for a peer that is gone, takes nothing of a message on its way for
// the time-out, or sends nothing for as long while one is waited for;
// std::runtime_error when another size came than the receiver named. After a
// message that broke off in the middle nothing more goes to that peer, or comes
// from it.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "ch02_hardware/transport/channels.h"

namespace dai::hardware {

class MessageEngine {
 public:
  using Done = std::function<void(std::exception_ptr error, int source)>;
  static constexpr int kAnyRank = -1;

  MessageEngine(int rank, int size, std::unique_ptr<Channels> channels,
                std::chrono::milliseconds timeout);
  // What has been sent leaves first, for as long as the time-out; what is still
  // waited for fails.
  ~MessageEngine();
  MessageEngine(const MessageEngine&) = delete;
  MessageEngine& operator=(const MessageEngine&) = delete;

  // Of and to other ranks.
  void send(int to, int tag, const void* data, std::size_t bytes, Done done);
  void receive(int from, int tag, void* data, std::size_t bytes, Done done);

 private:
  using Clock = std::chrono::steady_clock;
  struct Header {
    std::int64_t tag = 0;
    std::uint64_t bytes = 0;
  };
  struct Sending {
    int to = 0;
    Header header;
    const std::byte* data = nullptr;
    std::size_t done_bytes = 0;  // of header and data together
    bool tried = false;          // it is at the head of the queue
    Clock::time_point deadline;  // from then on, or from its last progress
    Done done;
  };
  struct Receiving {
    int from = kAnyRank;
    std::int64_t tag = 0;
    std::byte* data = nullptr;
    std::size_t bytes = 0;
    Clock::time_point deadline;
    Done done;
  };
  struct Kept {
    Header header;
    std::vector<std::byte> data;
  };
  // What a peer's stream is in the middle of.
  struct Peer {
    std::deque<Sending> out;
    Header header;
    std::size_t header_bytes = 0;
    std::size_t data_bytes = 0;
    bool header_whole = false, started = false;
    std::unique_ptr<Receiving> receiving;  // or null: into `keeping`
    std::vector<std::byte> keeping;
    std::deque<Kept> kept;
    std::size_t kept_bytes = 0;
    Clock::time_point last_came;
    bool left = false;
    int gone_looks = 0;         // in a row, at a peer that is gone
    std::exception_ptr broken;  // a message broke off: all the others, too
  };

  void loop();
  void run();
  void fail_all(const std::exception_ptr& error);
  bool find_receiver(int from, Peer& peer);
  void accept_new();
  bool send_some(Peer& peer);
  bool receive_some(int from, Peer& peer);
  void end_message(int from, Peer& peer);
  bool match_kept(Receiving& receiving);
  void look_at_peers();
  void finish(Receiving& receiving, const Header& header, const std::byte* data,
              int source);

  const int rank_, size_;
  const std::unique_ptr<Channels> channels_;
  const std::chrono::milliseconds timeout_;
  std::vector<Peer> peers_;
  std::list<Receiving> waiting_;

  std::mutex mutex_;
  std::vector<Sending> new_sends_;
  std::vector<Receiving> new_receives_;
  bool stopping_ = false;
  std::exception_ptr over_;  // the thread has ended, with this error
  std::thread thread_;
};

}  // namespace dai::hardware
