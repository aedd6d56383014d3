// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/transport/shm_transport.h"

#include <fmt/format.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "ch02_hardware/transport/shm_channels.h"

namespace dai::hardware {
namespace {

using std::chrono::milliseconds;

TransportOptions all_on_one_node(TransportOptions options, int ranks) {
  options.ranks_on_node = ranks;
  return options;
}

// Made before StreamTransport, which refers to it.
struct OwnedChannels {
  ShmChannels channels;
};

class ShmTransport final : private OwnedChannels,
                           public StreamTransport,
                           public SharedWindow {
 public:
  ShmTransport(int rank, std::shared_ptr<SharedSegment> segment,
               const ShmOptions& options)
      : OwnedChannels{ShmChannels(rank, segment)},
        StreamTransport(rank, segment->ranks(), channels,
                        all_on_one_node(options, segment->ranks())),
        segment_(std::move(segment)) {}
  ~ShmTransport() override { say_goodbye(); }

  std::string medium() const override {
    return segment_->process_of(0) ? "shm" : "threads";
  }
  SharedWindow* window() override { return this; }

  void reach_memory_of_threads(bool allowed) { reaches_ = allowed; }

  // Whether each of us reaches each other is agreed on once: all ranks must
  // choose the same algorithm. Collective.
  void try_reaching(bool allowed) {
    std::uint64_t probe = 0x6461692d30320000u + rank();
    Call call;
    call.input = &probe;
    begin(call);
    wait_for_all();
    bool all = allowed;
    for (int peer = 0; all && peer < size(); ++peer) {
      std::uint64_t word = 0;
      all = try_copy(peer, call_address(peer, /*input=*/true), &word,
                     sizeof word, /*write=*/false) == 0 &&
            word == probe - rank() + peer;
    }
    segment_->door(rank()).reaches.store(all ? 1 : 2);
    reaches_ = true;
    meet();
    for (int peer = 0; peer < size(); ++peer) {
      reaches_ = reaches_ && segment_->door(peer).reaches.load() == 1;
    }
  }

  // SharedWindow.
  std::byte* next_slot() override {
    // It was shown two collectives ago: who has begun the last one has read it.
    wait_for_all();
    return segment_->door(rank()).slots[(sequence() + 1) % 2];
  }
  const std::byte* slot(int peer) const override {
    return segment_->door(peer).slots[sequence() % 2];
  }
  bool reaches_memory() const override { return reaches_; }
  void read_input(int peer, std::size_t offset, void* into,
                  std::size_t bytes) override {
    copy(peer, call_address(peer, true) + offset, into, bytes, false);
  }
  void write_output(int peer, std::size_t offset, const void* from,
                    std::size_t bytes) override {
    copy(peer, call_address(peer, false) + offset, const_cast<void*>(from),
         bytes, true);
  }
  void meet() override {
    ++meetings_;
    segment_->door(rank()).met.store(meetings_);
    wake_all();
    for (int peer = 0; peer < size(); ++peer) {
      while (segment_->door(peer).met.load() < meetings_) idle(peer);
    }
    moved();
  }

 private:
  void wake_all() {
    for (int peer = 0; peer < size(); ++peer) {
      if (peer != rank()) ring_bell(segment_->door(peer));
    }
  }

  const std::byte* call_address(int peer, bool input) const {
    const Note& call = call_of(peer);
    return reinterpret_cast<const std::byte*>(input ? call.input : call.output);
  }

  // 0, or errno. `address` is one in the peer's address space.
  int try_copy(int peer, const std::byte* address, void* mine,
               std::size_t bytes, bool write) {
    if (bytes == 0) return 0;  // and there may be no buffer at all
    const int process = segment_->process_of(peer);
    auto* const theirs = const_cast<std::byte*>(address);
    if (process == 0 || peer == rank()) {
      std::memcpy(write ? theirs : mine, write ? mine : theirs, bytes);
      return 0;
    }
    for (std::size_t done = 0; done < bytes;) {
      const iovec here{static_cast<std::byte*>(mine) + done, bytes - done};
      const iovec there{theirs + done, bytes - done};
      const ssize_t n = write
                            ? process_vm_writev(process, &here, 1, &there, 1, 0)
                            : process_vm_readv(process, &here, 1, &there, 1, 0);
      if (n <= 0) return errno == 0 ? EIO : errno;
      done += n;
    }
    return 0;
  }
  void copy(int peer, const std::byte* address, void* mine, std::size_t bytes,
            bool write) {
    const int error = try_copy(peer, address, mine, bytes, write);
    if (error == 0) return;
    // Its process is gone, or going: then idle() says so in its own words.
    const auto until = std::chrono::steady_clock::now() + milliseconds(200);
    while (std::chrono::steady_clock::now() < until) idle(peer);
    fail(Fault::kUnreadable, {peer});
  }

  const std::shared_ptr<SharedSegment> segment_;
  std::uint64_t meetings_ = 0;
  bool reaches_ = false;
};

}  // namespace

std::vector<std::unique_ptr<Transport>> thread_transports(
    int ranks, const ShmOptions& options) {
  const auto segment = SharedSegment::of_threads(ranks);
  std::vector<std::unique_ptr<Transport>> transports;
  for (int rank = 0; rank < ranks; ++rank) {
    auto transport = std::make_unique<ShmTransport>(rank, segment, options);
    transport->reach_memory_of_threads(options.cross_memory_attach);
    transports.push_back(std::move(transport));
  }
  return transports;
}

std::unique_ptr<Transport> transport_on(
    const std::shared_ptr<SharedSegment>& segment, int rank,
    const ShmOptions& options) {
  auto transport = std::make_unique<ShmTransport>(rank, segment, options);
  transport->try_reaching(options.cross_memory_attach);
  return transport;
}

std::unique_ptr<Transport> connect_shm(int rank, int size,
                                       const Bootstrap& bootstrap,
                                       const ShmOptions& options) {
  return transport_on(SharedSegment::of_processes(rank, size, bootstrap), rank,
                      options);
}

}  // namespace dai::hardware
