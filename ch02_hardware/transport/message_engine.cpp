// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/transport/message_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace dai::hardware {
namespace {

using std::chrono::milliseconds;

// Beyond this, a sender has to wait until something is received.
constexpr std::size_t kMostKeptBytes = std::size_t{256} << 20;

std::exception_ptr peer_error(int peer, const std::string& what) {
  return std::make_exception_ptr(PeerError(peer, what));
}

}  // namespace

MessageEngine::MessageEngine(int rank, int size,
                             std::unique_ptr<Channels> channels,
                             milliseconds timeout)
    : rank_(rank),
      size_(size),
      channels_(std::move(channels)),
      timeout_(timeout),
      peers_(size),
      thread_([this] { loop(); }) {}

MessageEngine::~MessageEngine() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  channels_->interrupt();
  thread_.join();
}

void MessageEngine::send(int to, int tag, const void* data, std::size_t bytes,
                         Done done) {
  Sending message;
  message.to = to;
  message.header = {tag, bytes};
  message.data = static_cast<const std::byte*>(data);
  message.done = std::move(done);
  std::exception_ptr over;
  {
    const std::lock_guard lock(mutex_);
    over = over_;
    if (!over) new_sends_.push_back(std::move(message));
  }
  if (over) return message.done(over, to);
  channels_->interrupt();
}

void MessageEngine::receive(int from, int tag, void* data, std::size_t bytes,
                            Done done) {
  Receiving wanted;
  wanted.from = from;
  wanted.tag = tag;
  wanted.data = static_cast<std::byte*>(data);
  wanted.bytes = bytes;
  wanted.deadline = Clock::now() + timeout_;
  wanted.done = std::move(done);
  std::exception_ptr over;
  {
    const std::lock_guard lock(mutex_);
    over = over_;
    if (!over) new_receives_.push_back(std::move(wanted));
  }
  if (over) return wanted.done(over, from);
  channels_->interrupt();
}

void MessageEngine::finish(Receiving& wanted, const Header& header,
                           const std::byte* data, int source) {
  if (header.bytes != wanted.bytes) {
    return wanted.done(std::make_exception_ptr(std::runtime_error(fmt::format(
                           "rank {} sent {} bytes, {} were expected", source,
                           header.bytes, wanted.bytes))),
                       source);
  }
  if (data && wanted.bytes > 0) std::memcpy(wanted.data, data, wanted.bytes);
  wanted.done(nullptr, source);
}

// A message that has come before anybody asked for it.
bool MessageEngine::match_kept(Receiving& wanted) {
  for (int from = 0; from < size_; ++from) {
    if (wanted.from != kAnyRank && wanted.from != from) continue;
    auto& kept = peers_[from].kept;
    const auto found = std::find_if(
        kept.begin(), kept.end(),
        [&](const Kept& one) { return one.header.tag == wanted.tag; });
    if (found == kept.end()) continue;
    const Kept one = std::move(*found);
    kept.erase(found);
    peers_[from].kept_bytes -= one.data.size();
    finish(wanted, one.header, one.data.data(), from);
    return true;
  }
  return false;
}

void MessageEngine::accept_new() {
  std::vector<Sending> sends;
  std::vector<Receiving> receives;
  {
    const std::lock_guard lock(mutex_);
    sends.swap(new_sends_);
    receives.swap(new_receives_);
  }
  for (Receiving& wanted : receives) {
    if (!match_kept(wanted)) waiting_.push_back(std::move(wanted));
  }
  for (Sending& message : sends) {
    peers_[message.to].out.push_back(std::move(message));
  }
}

bool MessageEngine::send_some(Peer& peer) {
  if (peer.out.empty()) return false;
  Sending& message = peer.out.front();
  if (peer.broken) return false;  // look_at_peers() ends it
  if (!message.tried) {
    message.tried = true;
    message.deadline = Clock::now() + timeout_;
  }
  constexpr std::size_t head = sizeof(Header);
  std::size_t moved = 0;
  if (message.done_bytes == 0) channels_->start_outgoing(message.to);
  if (message.done_bytes < head) {
    moved = channels_->try_send(
        message.to,
        reinterpret_cast<const std::byte*>(&message.header) +
            message.done_bytes,
        head - message.done_bytes);
  } else if (message.header.bytes > 0) {
    const std::size_t done = message.done_bytes - head;
    if (done == 0) channels_->start_outgoing(message.to);
    moved = channels_->try_send(message.to, message.data + done,
                                message.header.bytes - done);
  }
  message.done_bytes += moved;
  if (moved > 0) message.deadline = Clock::now() + timeout_;
  if (message.done_bytes < head + message.header.bytes) return moved > 0;
  const Done done = std::move(message.done);
  const int to = message.to;
  peer.out.pop_front();
  done(nullptr, to);
  return true;
}

// Who waits for the message whose header has come. False: nobody does yet, and
// it is too long to be kept.
bool MessageEngine::find_receiver(int from, Peer& peer) {
  peer.receiving.reset();
  for (auto it = waiting_.begin(); it != waiting_.end(); ++it) {
    if ((it->from != from && it->from != kAnyRank) ||
        it->tag != peer.header.tag) {
      continue;
    }
    peer.receiving = std::make_unique<Receiving>(std::move(*it));
    waiting_.erase(it);
    break;
  }
  const bool straight =
      peer.receiving && peer.receiving->bytes == peer.header.bytes;
  if (!peer.receiving && peer.header.bytes > kMostKeptBytes) return false;
  if (!straight) peer.keeping.resize(peer.header.bytes);
  return true;
}

bool MessageEngine::receive_some(int from, Peer& peer) {
  if (peer.broken) return false;
  if (peer.header_bytes < sizeof(Header)) {
    if (peer.kept_bytes > kMostKeptBytes) return false;
    if (!peer.started) {
      channels_->start_incoming(from);
      peer.started = true;
    }
    const std::size_t n = channels_->try_receive(
        from, reinterpret_cast<std::byte*>(&peer.header) + peer.header_bytes,
        sizeof(Header) - peer.header_bytes);
    peer.header_bytes += n;
    if (n > 0) peer.last_came = Clock::now();
    if (peer.header_bytes < sizeof(Header)) return n > 0;
  }
  if (!peer.header_whole) {
    if (!find_receiver(from, peer)) return false;
    peer.header_whole = true;
    peer.data_bytes = 0;
    if (peer.header.bytes == 0) {
      end_message(from, peer);
    } else {
      channels_->start_incoming(from);
    }
    return true;
  }
  const bool straight =
      peer.receiving && peer.receiving->bytes == peer.header.bytes;
  std::byte* const to = straight ? peer.receiving->data : peer.keeping.data();
  const std::size_t n = channels_->try_receive(
      from, to + peer.data_bytes, peer.header.bytes - peer.data_bytes);
  peer.data_bytes += n;
  if (n > 0) peer.last_came = Clock::now();
  if (peer.data_bytes == peer.header.bytes) end_message(from, peer);
  return n > 0;
}

void MessageEngine::end_message(int from, Peer& peer) {
  peer.header_whole = peer.started = false;
  peer.header_bytes = 0;
  if (peer.receiving) {
    const auto wanted = std::move(peer.receiving);
    peer.keeping.clear();
    finish(*wanted, peer.header, nullptr, from);
    return;
  }
  peer.kept_bytes += peer.keeping.size();
  peer.kept.push_back({peer.header, std::move(peer.keeping)});
  peer.keeping.clear();
  // A receive may have been posted while the message was on its way.
  for (auto it = waiting_.begin(); it != waiting_.end(); ++it) {
    if ((it->from == from || it->from == kAnyRank) &&
        it->tag == peer.header.tag) {
      Receiving wanted = std::move(*it);
      waiting_.erase(it);
      match_kept(wanted);
      return;
    }
  }
}

// Whoever is gone, or has been silent for too long, fails what waits for it.
void MessageEngine::look_at_peers() {
  const auto now = Clock::now();
  const auto seconds = static_cast<double>(timeout_.count()) / 1000;
  const auto silent = [&](int peer) {
    return peer_error(
        peer, fmt::format("nothing came from rank {} for {} s", peer, seconds));
  };
  bool all_left = size_ > 1;
  for (int rank = 0; rank < size_; ++rank) {
    if (rank == rank_) continue;
    Peer& peer = peers_[rank];
    Note note;
    while (channels_->take(rank, note)) {
      if (note.kind == NoteKind::kGoodbye) peer.left = true;
    }
    // Its last words may have come since we looked for them: look once more.
    const bool away =
        peer.left ? channels_->drained(rank) : channels_->dead(rank);
    peer.gone_looks = away ? peer.gone_looks + 1 : 0;
    const bool gone = peer.gone_looks > 2;
    if (!gone) all_left = false;
    if (gone && !peer.broken) {
      peer.broken =
          peer_error(rank, fmt::format("rank {} {}", rank,
                                       peer.left ? "left the group" : "died"));
    }
    // Silent since a receive was asked for, and since anything last came.
    const auto late = [&](const Receiving& wanted) {
      return std::max(wanted.deadline, peer.last_came + timeout_) < now;
    };
    if (!peer.broken && !peer.out.empty() && peer.out.front().tried &&
        peer.out.front().deadline < now) {
      peer.broken = peer_error(
          rank, fmt::format("rank {} took nothing for {} s", rank, seconds));
    }
    if (!peer.broken && peer.receiving && late(*peer.receiving)) {
      peer.broken = silent(rank);
    }
    while (peer.broken && !peer.out.empty()) {
      const Done done = std::move(peer.out.front().done);
      peer.out.pop_front();
      done(peer.broken, rank);
    }
    if (peer.broken && peer.receiving) {
      const auto wanted = std::move(peer.receiving);
      wanted->done(peer.broken, rank);
    }
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      const bool ends = it->from == rank && (peer.broken || late(*it));
      if (!ends) {
        ++it;
        continue;
      }
      const Done done = std::move(it->done);
      it = waiting_.erase(it);
      done(peer.broken ? peer.broken : silent(rank), rank);
    }
  }
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    const bool any = it->from == kAnyRank;
    if ((it->deadline >= now && !(any && all_left)) ||
        !(any || it->from == rank_)) {
      ++it;
      continue;
    }
    const Done done = std::move(it->done);
    it = waiting_.erase(it);
    done(peer_error(-1, any && all_left
                            ? "all other ranks are gone"
                            : fmt::format("nothing came for {} s", seconds)),
         -1);
  }
}

void MessageEngine::run() {
  int empty_looks = 0;
  for (;;) {
    accept_new();
    bool moved = false, sending = false;
    for (int rank = 0; rank < size_; ++rank) {
      if (rank == rank_) continue;
      const bool came = receive_some(rank, peers_[rank]);
      if (came) peers_[rank].gone_looks = 0;
      moved |= came | send_some(peers_[rank]);
      sending |= !peers_[rank].out.empty();
    }
    if (moved) {
      empty_looks = 0;
      channels_->unpark();
      continue;
    }
    if (++empty_looks < 3) continue;
    look_at_peers();
    {
      const std::lock_guard lock(mutex_);
      if (!new_sends_.empty() || !new_receives_.empty()) continue;
      if (stopping_ && !sending) break;
    }
    channels_->park(milliseconds(20));
  }
  Note note;
  note.kind = NoteKind::kGoodbye;
  for (int rank = 0; rank < size_; ++rank) {
    if (rank != rank_) channels_->post(rank, note);
  }
}

void MessageEngine::loop() {
  std::exception_ptr error = std::make_exception_ptr(
      std::runtime_error("the group was closed before this came"));
  try {
    run();
  } catch (...) {
    error = std::current_exception();
  }
  fail_all(error);
}

// Whoever asked gets an answer, and whoever asks from now on.
void MessageEngine::fail_all(const std::exception_ptr& error) {
  std::vector<Sending> sends;
  std::vector<Receiving> receives;
  {
    const std::lock_guard lock(mutex_);
    over_ = error;
    sends.swap(new_sends_);
    receives.swap(new_receives_);
  }
  for (Sending& message : sends) message.done(error, message.to);
  for (Receiving& wanted : receives) wanted.done(error, wanted.from);
  for (Receiving& wanted : waiting_) wanted.done(error, wanted.from);
  waiting_.clear();
  for (Peer& peer : peers_) {
    for (Sending& message : peer.out) message.done(error, message.to);
    peer.out.clear();
    if (peer.receiving) peer.receiving->done(error, -1);
    peer.receiving.reset();
  }
}

}  // namespace dai::hardware
