// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "ch02_hardware/transport/tcp_transport.h"
#include "common/launch/net.h"

namespace dai::hardware {
namespace {

using launch::UniqueFd;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// Between two system calls, so that sending and receiving take turns, and so
// that what was received is still in the cache when it is added.
constexpr std::size_t kTurn = 262144;

struct Hello {
  std::uint64_t key = 0;
  std::uint32_t from = 0;
  std::uint32_t notes = 0;  // 1: the connection for notes
};

bool would_block(int error) {
  return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

class TcpChannels final : public Channels {
 public:
  struct Peer {
    UniqueFd data, notes;
    bool notes_over = false;  // no more will come
    bool data_over = false;
    bool failed = false;                       // not closed: broken
    bool wants_in = false, wants_out = false;  // the last try found nothing
    // Received, not consumed: [begin, end) of the room.
    std::vector<std::byte> room;
    std::size_t begin = 0, end = 0;
    // Of a note that has come, or gone, in part.
    std::byte half_note[sizeof(Note)];
    std::size_t half_bytes = 0;
    std::vector<std::byte> unsent;
  };

  explicit TcpChannels(std::vector<Peer> peers)
      : peers_(std::move(peers)),
        interrupt_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (!interrupt_) {
      throw std::system_error(errno, std::generic_category(), "eventfd");
    }
  }

  // A socket that is closed with bytes unread resets the connection, and what
  // was sent last may be lost on its way.
  ~TcpChannels() override {
    for (Peer& peer : peers_) {
      for (const UniqueFd* fd : {&peer.data, &peer.notes}) {
        if (!*fd) continue;
        ::shutdown(fd->get(), SHUT_WR);
        std::byte unread[4096];
        while (::recv(fd->get(), unread, sizeof unread, MSG_DONTWAIT) > 0) {
        }
      }
    }
  }

  std::size_t try_send(int to, const std::byte* data,
                       std::size_t bytes) override {
    Peer& peer = peers_[to];
    const ssize_t n = ::send(peer.data.get(), data, std::min(bytes, kTurn),
                             MSG_DONTWAIT | MSG_NOSIGNAL);
    peer.wants_out = n < 0 && would_block(errno);
    if (n < 0 && !peer.wants_out) peer.failed = true;
    return n > 0 ? static_cast<std::size_t>(n) : 0;
  }

  std::size_t try_receive(int from, std::byte* data,
                          std::size_t bytes) override {
    Peer& peer = peers_[from];
    if (peer.begin < peer.end) {
      const std::size_t n = std::min(bytes, peer.end - peer.begin);
      std::memcpy(data, peer.room.data() + peer.begin, n);
      peer.begin += n;
      return n;
    }
    return receive(peer, data, std::min(bytes, kTurn));
  }

  std::span<const std::byte> peek(int from, std::size_t most) override {
    Peer& peer = peers_[from];
    if (peer.room.empty()) peer.room.resize(kTurn);
    // Less than an element may be left over from the last time.
    const std::size_t left = peer.end - peer.begin;
    if (left > 0 && peer.begin > 0) {
      std::memmove(peer.room.data(), peer.room.data() + peer.begin, left);
    }
    peer.begin = 0;
    peer.end = left;
    const std::size_t wanted = std::min(most, kTurn) - std::min(most, left);
    if (wanted > 0) {
      peer.end += receive(peer, peer.room.data() + left, wanted);
    }
    return {peer.room.data(), std::min(most, peer.end)};
  }
  void consume(int from, std::size_t bytes) override {
    peers_[from].begin += bytes;
  }

  bool post(int to, const Note& note) override {
    Peer& peer = peers_[to];
    const auto* const bytes = reinterpret_cast<const std::byte*>(&note);
    peer.unsent.insert(peer.unsent.end(), bytes, bytes + sizeof note);
    flush(peer);
    return true;
  }
  bool take(int from, Note& note) override {
    Peer& peer = peers_[from];
    if (!peer.unsent.empty()) flush(peer);
    const ssize_t n = ::recv(peer.notes.get(), peer.half_note + peer.half_bytes,
                             sizeof(Note) - peer.half_bytes, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && !would_block(errno))) peer.notes_over = true;
    if (n <= 0) return false;
    peer.half_bytes += n;
    if (peer.half_bytes < sizeof(Note)) return false;
    std::memcpy(&note, peer.half_note, sizeof(Note));
    peer.half_bytes = 0;
    return true;
  }
  bool dead(int peer) override {
    return peers_[peer].notes_over || peers_[peer].failed;
  }
  // Its end comes behind the last byte, but only to who looks for it.
  bool drained(int from) override {
    Peer& peer = peers_[from];
    std::byte next;
    if (!peer.data_over && !peer.failed) {
      const ssize_t n =
          ::recv(peer.data.get(), &next, 1, MSG_PEEK | MSG_DONTWAIT);
      peer.data_over = n == 0 || (n < 0 && !would_block(errno));
    }
    return peer.data_over || peer.failed;
  }

  void park(milliseconds limit) override {
    polled_.clear();
    for (Peer& peer : peers_) {
      if (!peer.notes) continue;
      // A closed socket is always ready: it would keep us from sleeping.
      if (!peer.notes_over) polled_.push_back({peer.notes.get(), POLLIN, 0});
      if (peer.data_over || peer.failed) continue;
      const short events = static_cast<short>((peer.wants_in ? POLLIN : 0) |
                                              (peer.wants_out ? POLLOUT : 0));
      if (events) polled_.push_back({peer.data.get(), events, 0});
    }
    polled_.push_back({interrupt_.get(), POLLIN, 0});
    ::poll(polled_.data(), polled_.size(), static_cast<int>(limit.count()));
    if (polled_.back().revents) {
      eventfd_t times = 0;
      eventfd_read(interrupt_.get(), &times);
    }
  }
  void interrupt() override { eventfd_write(interrupt_.get(), 1); }
  // A system call each.
  int spins() const override { return 60; }

 private:
  std::size_t receive(Peer& peer, std::byte* data, std::size_t bytes) {
    const ssize_t n = ::recv(peer.data.get(), data, bytes, MSG_DONTWAIT);
    const bool empty = n < 0 && would_block(errno);
    if (n == 0 || (n < 0 && !empty)) peer.data_over = true;
    if (n < 0 && !empty) peer.failed = true;
    // Less than asked for may be less than an element: there is more to come.
    peer.wants_in = empty || (n > 0 && static_cast<std::size_t>(n) < bytes);
    return n > 0 ? static_cast<std::size_t>(n) : 0;
  }
  void flush(Peer& peer) {
    const ssize_t n = ::send(peer.notes.get(), peer.unsent.data(),
                             peer.unsent.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) {
      peer.unsent.erase(peer.unsent.begin(), peer.unsent.begin() + n);
    } else if (n < 0 && !would_block(errno)) {
      peer.notes_over = true;
      peer.unsent.clear();
    }
  }

  std::vector<Peer> peers_;
  const UniqueFd interrupt_;
  std::vector<pollfd> polled_;
};

std::uint64_t random_key() {
  std::uint64_t key = 0;
  if (getrandom(&key, sizeof key, 0) != sizeof key) {
    throw std::runtime_error("getrandom failed");
  }
  return key;
}

void set_no_delay(int fd) {
  const int yes = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

// Reads a whole Hello from a fresh connection, or gives up on it: a stranger
// may say nothing at all.
bool read_hello(int fd, Hello& hello, Clock::time_point until) {
  auto* const bytes = reinterpret_cast<std::byte*>(&hello);
  std::size_t done = 0;
  while (done < sizeof hello) {
    const auto left =
        std::chrono::duration_cast<milliseconds>(until - Clock::now());
    pollfd one{fd, POLLIN, 0};
    if (left.count() <= 0 ||
        ::poll(&one, 1, static_cast<int>(left.count())) <= 0) {
      return false;
    }
    const ssize_t n =
        ::recv(fd, bytes + done, sizeof hello - done, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && !would_block(errno))) return false;
    if (n > 0) done += n;
  }
  return true;
}

// What a rank tells the others: how to reach it, and the key to its door.
struct Invitation {
  std::string address;
  int port = 0;
  std::uint64_t key = 0;

  std::string text() const {
    return fmt::format("{} {} {}", port, key, address);
  }
  static Invitation from(const std::string& text) {
    Invitation it;
    unsigned long long key = 0;
    int at = 0;
    if (std::sscanf(text.c_str(), "%d %llu %n", &it.port, &key, &at) != 2) {
      throw std::runtime_error("tcp: not an invitation: " + text);
    }
    it.key = key;
    it.address = text.substr(at);
    return it;
  }
};

UniqueFd call_on(const Invitation& host, int rank, int from, bool notes,
                 milliseconds limit) {
  try {
    UniqueFd fd = launch::connect_to(host.address, host.port, limit);
    set_no_delay(fd.get());
    const Hello hello{host.key, static_cast<std::uint32_t>(from), notes};
    if (::send(fd.get(), &hello, sizeof hello, MSG_NOSIGNAL) !=
        static_cast<ssize_t>(sizeof hello)) {
      throw std::system_error(errno, std::generic_category());
    }
    return fd;
  } catch (const std::exception& error) {
    throw std::runtime_error(fmt::format(
        "rank {} cannot reach rank {} at {}: {}", from, rank,
        launch::endpoint_name(host.address, host.port), error.what()));
  }
}

}  // namespace

std::unique_ptr<Channels> connect_tcp_channels(const TcpOptions& options,
                                               const Bootstrap& bootstrap) {
  const auto until = Clock::now() + options.timeout;
  UniqueFd listener = launch::listen_on(options.address, 0);
  const Invitation mine{options.address, launch::local_port(listener.get()),
                        random_key()};
  const auto invitations = bootstrap(mine.text());
  std::vector<TcpChannels::Peer> peers(options.size);
  // Ranks call on those before them, and open to those after them.
  for (int rank = 0; rank < options.rank; ++rank) {
    const Invitation host = Invitation::from(invitations[rank]);
    peers[rank].data =
        call_on(host, rank, options.rank, false, options.timeout);
    peers[rank].notes =
        call_on(host, rank, options.rank, true, options.timeout);
  }
  int missing = 2 * (options.size - 1 - options.rank);
  while (missing > 0) {
    const auto left =
        std::chrono::duration_cast<milliseconds>(until - Clock::now());
    pollfd one{listener.get(), POLLIN, 0};
    if (left.count() <= 0 ||
        ::poll(&one, 1, static_cast<int>(left.count())) <= 0) {
      std::string who;
      for (int rank = options.rank + 1; rank < options.size; ++rank) {
        if (!peers[rank].data || !peers[rank].notes) {
          who += fmt::format("{}{}", who.empty() ? "" : ", ", rank);
        }
      }
      throw std::runtime_error(fmt::format(
          "tcp: ranks {} did not connect to rank {} at {} within {} s", who,
          options.rank, launch::endpoint_name(options.address, mine.port),
          static_cast<double>(options.timeout.count()) / 1000));
    }
    UniqueFd fd(::accept4(listener.get(), nullptr, nullptr,
                          SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) continue;
    Hello hello;
    const auto patience = std::min(until, Clock::now() + milliseconds(1000));
    if (!read_hello(fd.get(), hello, patience) || hello.key != mine.key ||
        hello.from <= static_cast<std::uint32_t>(options.rank) ||
        hello.from >= static_cast<std::uint32_t>(options.size)) {
      continue;
    }
    set_no_delay(fd.get());
    UniqueFd& place =
        hello.notes ? peers[hello.from].notes : peers[hello.from].data;
    if (place) continue;
    place = std::move(fd);
    --missing;
  }
  return std::make_unique<TcpChannels>(std::move(peers));
}

std::unique_ptr<Transport> connect_tcp(const TcpOptions& options,
                                       const Bootstrap& bootstrap,
                                       std::vector<int> nodes) {
  return transport_over(connect_tcp_channels(options, bootstrap), options.rank,
                        options.size, "tcp", std::move(nodes), options);
}

}  // namespace dai::hardware
