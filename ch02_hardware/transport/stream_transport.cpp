// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/transport/stream_transport.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "ch02_hardware/reduction/combine.h"

namespace dai::hardware {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLongestPark{50};

int cores() {
  return static_cast<int>(std::thread::hardware_concurrency());
}

// Between two looks. A rank that spins on a shared core keeps its peer from
// sending.
void relax(bool shares_core) {
  if (shares_core) {
    sched_yield();
    return;
  }
#ifdef __x86_64__
  __builtin_ia32_pause();
#endif
}

// "all_reduce(float32[1024], sum)"
std::string describe(const Note& call) {
  std::string text = to_string(call.what);
  if (call.what == Collective::kBarrier) return text;
  text += fmt::format("({}[{}]", to_string(call.dtype), call.count);
  if (reduces(call.what)) text += fmt::format(", {}", to_string(call.op));
  if (call.root >= 0) text += fmt::format(", root {}", call.root);
  return text + ")";
}

bool same_call(const Note& a, const Note& b) {
  return a.what == b.what && a.count == b.count && a.dtype == b.dtype &&
         (a.op == b.op || !reduces(a.what)) && a.root == b.root &&
         a.algorithm == b.algorithm && a.pairwise == b.pairwise;
}

std::string ranks_text(const std::vector<int>& ranks) {
  return fmt::format("rank{} {}", ranks.size() == 1 ? "" : "s",
                     fmt::join(ranks, ", "));
}

}  // namespace

StreamTransport::StreamTransport(int rank, int size, Channels& channels,
                                 const TransportOptions& options)
    : rank_(rank),
      size_(size),
      channels_(channels),
      timeout_(options.timeout),
      shares_core_(options.ranks_on_node > cores()),
      spins_(shares_core_ ? channels.spins() / 80 + 1 : channels.spins()),
      peers_(size) {}

void StreamTransport::say_goodbye() noexcept {
  Note note;
  note.kind = NoteKind::kGoodbye;
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    try {
      channels_.post(peer, note);
    } catch (const std::exception&) {
      // It will see that we are gone.
    }
  }
}

void StreamTransport::begin(const Call& call) {
  if (!broken_.empty()) throw PeerError(broken_by_, broken_);
  // At most one collective ahead of the slowest rank: notes and slots for two
  // are all there is.
  wait_for_all();
  ++sequence_;
  mine_ = {};
  mine_.what = call.what;
  mine_.count = call.count;
  mine_.dtype = call.dtype;
  mine_.op = call.op;
  mine_.root = call.root;
  mine_.algorithm = call.algorithm;
  mine_.sequence = sequence_;
  mine_.pairwise = call.pairs != nullptr;
  mine_.input = reinterpret_cast<std::uint64_t>(call.input);
  mine_.output = reinterpret_cast<std::uint64_t>(call.output);
  if (call.pairs) pairs_.assign(call.pairs, call.pairs + size_);
  heard_all_ = size_ == 1;
  for (int i = 1; i < size_; ++i) {
    const int peer = (rank_ + i) % size_;
    Note note = mine_;
    if (call.pairs) {
      note.input = call.pairs[peer].to;
      note.output = call.pairs[peer].from;
    }
    while (!channels_.post(peer, note)) idle(peer);
    if (auto& ahead = peers_[peer].ahead) {
      const Note earlier = *ahead;
      ahead.reset();
      heard_call(peer, earlier);
    }
  }
  moved();
}

bool StreamTransport::all_heard() {
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_ || peers_[peer].heard == sequence_) continue;
    read_notes(peer);
    if (peers_[peer].heard != sequence_) return false;
  }
  return true;
}

void StreamTransport::wait_for_all() {
  if (heard_all_) return;
  while (!all_heard()) idle(-1);
  heard_all_ = true;
  moved();
}

void StreamTransport::heard_call(int peer, const Note& note) {
  Peer& that = peers_[peer];
  if (note.sequence > sequence_) {
    that.ahead = note;
    return;
  }
  that.heard = note.sequence;
  that.call = note;
  if (!same_call(note, mine_) ||
      (mine_.pairwise &&
       (note.input != pairs_[peer].from || note.output != pairs_[peer].to))) {
    fail(Fault::kMismatch, {peer});
  }
}

void StreamTransport::read_notes(int peer) {
  Note note;
  while (channels_.take(peer, note)) {
    switch (note.kind) {
      case NoteKind::kCall:
        heard_call(peer, note);
        break;
      case NoteKind::kAlive:
        peers_[peer].alive = true;
        if (note.about == rank_) break;  // that was the answer
        note.about = peer;
        channels_.post(peer, note);
        break;
      case NoteKind::kAbort: {
        std::vector<int> culprits;
        for (int rank = 0; rank < std::min(size_, 64); ++rank) {
          if (note.count >> rank & 1) culprits.push_back(rank);
        }
        if (culprits.empty() && note.about >= 0) culprits = {note.about};
        give_up(culprits, note.fault,
                fmt::format(
                    "{}{} (found by rank {})",
                    note.about == rank_ ? "the others blame this rank: " : "",
                    said_of(note.fault, culprits), peer));
      }
      case NoteKind::kGoodbye:
        peers_[peer].left = true;
        break;
    }
  }
}

void StreamTransport::read_all_notes() {
  for (int peer = 0; peer < size_; ++peer) {
    if (peer != rank_) read_notes(peer);
  }
}

bool StreamTransport::receive_some(const Incoming& in, std::size_t& done) {
  auto* const data = static_cast<std::byte*>(in.data);
  if (!in.combine) {
    const std::size_t n =
        channels_.try_receive(in.from, data + done, in.bytes - done);
    done += n;
    return n > 0;
  }
  const std::size_t element = size_of(in.combine->dtype);
  const auto come = channels_.peek(in.from, in.bytes - done);
  const std::size_t n = come.size() / element * element;
  if (n == 0) return false;
  const auto* const with = static_cast<const std::byte*>(in.combine->with);
  const std::byte* a = with + done;
  const std::byte* b = come.data();
  if (in.combine->received_first) std::swap(a, b);
  combine(data + done, a, b, n / element, in.combine->dtype, in.combine->op);
  channels_.consume(in.from, n);
  done += n;
  return true;
}

void StreamTransport::exchange(std::span<const Outgoing> outgoing,
                               std::span<const Incoming> incoming) {
  if (!broken_.empty()) throw PeerError(broken_by_, broken_);
  sent_.assign(outgoing.size(), 0);
  received_.assign(incoming.size(), 0);
  std::size_t left = 0;  // messages that are not through
  for (const Outgoing& out : outgoing) {
    if (out.bytes == 0) continue;
    channels_.start_outgoing(out.to);
    ++left;
  }
  for (const Incoming& in : incoming) {
    if (in.bytes == 0) continue;
    channels_.start_incoming(in.from);
    ++left;
  }
  while (left > 0) {
    bool any = false;
    int waiting_for = -1;
    for (std::size_t i = 0; i < outgoing.size(); ++i) {
      const Outgoing& out = outgoing[i];
      std::size_t& done = sent_[i];
      if (done == out.bytes) continue;
      const std::size_t n = channels_.try_send(
          out.to, static_cast<const std::byte*>(out.data) + done,
          out.bytes - done);
      done += n;
      if (n > 0) any = true;
      if (done == out.bytes)
        --left;
      else
        waiting_for = out.to;
    }
    if (!heard_all_ && !incoming.empty()) heard_all_ = all_heard();
    for (std::size_t i = 0; heard_all_ && i < incoming.size(); ++i) {
      const Incoming& in = incoming[i];
      std::size_t& done = received_[i];
      if (done == in.bytes) continue;
      if (receive_some(in, done)) any = true;
      if (done == in.bytes)
        --left;
      else
        waiting_for = in.from;
    }
    if (any) {
      moved();
      if (++rounds_ % 1024 == 0) read_all_notes();
    } else if (left > 0) {
      idle(waiting_for);
    }
  }
}

void StreamTransport::reset_idle() {
  idle_rounds_ = 0;
  if (suspected_) {
    for (Peer& peer : peers_) peer.suspected = false;
    suspected_ = false;
  }
  if (idle_since_) {
    idle_since_.reset();
    asked_ = false;
    channels_.unpark();
  }
}

// A rank may have done its last part, and gone, since the caller looked for it:
// only what is still so after another look of the caller's is a failure.
void StreamTransport::look_for_the_dead(int waiting_for) {
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    Peer& that = peers_[peer];
    if (!that.left && channels_.dead(peer)) {
      read_notes(peer);  // its last words may have come between the two looks
      if (!that.left && that.suspected) fail(Fault::kDied, {peer});
      if (!that.left) that.suspected = suspected_ = true;
    }
    // Who left calls nothing more, but what it sent may still be on its way.
    const bool needed =
        that.heard < sequence_ ||
        (peer == waiting_for && that.left && channels_.drained(peer));
    if (that.left && needed) {
      if (that.suspected) fail(Fault::kLeft, {peer});
      that.suspected = suspected_ = true;
    }
  }
}

void StreamTransport::idle(int waiting_for) {
  if (++idle_rounds_ < spins_) return relax(shares_core_);
  const auto now = Clock::now();
  if (!idle_since_) idle_since_ = now;
  read_all_notes();
  if (now - looked_at_ > milliseconds(20)) {
    looked_at_ = now;
    look_for_the_dead(waiting_for);
    if (suspected_) {
      looked_at_ = {};
      return;
    }
  }
  const auto grace = std::min(milliseconds(1000), timeout_ / 4);
  const auto asks_at = *idle_since_ + timeout_ - grace;
  const auto ends_at = *idle_since_ + timeout_;
  if (now >= ends_at) give_verdict(waiting_for);
  if (now >= asks_at && !asked_) {
    asked_ = true;
    Note note;
    note.kind = NoteKind::kAlive;
    note.sequence = sequence_;
    for (int peer = 0; peer < size_; ++peer) {
      if (peer == rank_) continue;
      peers_[peer].alive = false;
      channels_.post(peer, note);
    }
  }
  const auto left = std::chrono::duration_cast<milliseconds>(
      (asked_ ? ends_at : asks_at) - now);
  channels_.park(std::clamp(left, milliseconds(1), kLongestPark));
}

void StreamTransport::give_verdict(int waiting_for) {
  std::vector<int> silent, behind;
  bool one_has_called = false;
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    const Peer& that = peers_[peer];
    if (!that.alive) {
      silent.push_back(peer);
      if (that.heard >= sequence_) one_has_called = true;
    } else if (that.heard < sequence_) {
      behind.push_back(peer);
    }
  }
  if (!silent.empty()) {
    fail(one_has_called ? Fault::kSilent : Fault::kNotHere, silent);
  }
  if (!behind.empty()) fail(Fault::kNotHere, behind);
  fail(Fault::kStuck,
       waiting_for >= 0 ? std::vector{waiting_for} : std::vector<int>{});
}

std::string StreamTransport::name_of_call() const {
  return fmt::format("{} #{}", describe(mine_), sequence_);
}

std::string StreamTransport::said_of(Fault fault,
                                     const std::vector<int>& culprits) const {
  const std::string who =
      culprits.empty() ? "the other ranks" : ranks_text(culprits);
  const double seconds = static_cast<double>(timeout_.count()) / 1000;
  switch (fault) {
    case Fault::kDied:
      return who + " died";
    case Fault::kLeft:
      return who + " left the group";
    case Fault::kNotHere:
      return fmt::format("{} did not call it within {} s", who, seconds);
    case Fault::kSilent:
      return fmt::format("{} stopped answering for {} s", who, seconds);
    case Fault::kMismatch:
      return who + " called something else";
    case Fault::kUnreadable:
      return "the memory of " + who + " cannot be reached any more";
    case Fault::kStuck:
      return fmt::format("nothing came from {} for {} s", who, seconds);
  }
  return who;
}

void StreamTransport::fail(Fault fault, std::vector<int> culprits) {
  std::string said = said_of(fault, culprits);
  if (fault == Fault::kMismatch) {
    const int other = culprits.front();
    const Note& call = peers_[other].call;
    said = fmt::format("rank {} called {} instead", other, describe(call));
    if (same_call(call, mine_)) {
      const PairBytes& pair = pairs_[other];
      said = fmt::format(
          "rank {} sends {} bytes and expects {}, this rank expects {} and "
          "sends {}",
          other, call.input, call.output, pair.from, pair.to);
    } else if (describe(call) == describe(mine_)) {
      said = fmt::format("rank {} uses another algorithm", other);
    }
  }
  give_up(culprits, fault, said);
}

// Passed on by everybody who hears of it, so that no rank sees another one
// leave before it knows why.
void StreamTransport::give_up(const std::vector<int>& culprits, Fault fault,
                              const std::string& said) {
  broken_by_ = culprits.empty() ? -1 : culprits.front();
  broken_ = fmt::format("{} on rank {}: {}", name_of_call(), rank_, said);
  Note note;
  note.kind = NoteKind::kAbort;
  note.fault = fault;
  note.about = broken_by_;
  note.sequence = sequence_;
  for (const int rank : culprits) {
    if (rank < 64) note.count |= std::uint64_t{1} << rank;
  }
  for (int peer = 0; peer < size_; ++peer) {
    if (peer != rank_) channels_.post(peer, note);
  }
  throw PeerError(broken_by_, broken_);
}

}  // namespace dai::hardware
