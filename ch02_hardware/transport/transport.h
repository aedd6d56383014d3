// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a collective needs of a network: bytes from rank to rank. The algorithms
// of ch02_hardware/collectives are written against this and nothing else, so
// that each of them runs between threads, processes of a node (shared memory),
// nodes (TCP) and over MPI.
//
//   transport.begin(call);                       // what is about to happen
//   transport.exchange({{{right, mine, n}}}, {{{left, theirs, n}}});
//
// Messages between two ranks arrive in the order in which they were sent, and
// a receive names the size that was sent. No tags: algorithms know what comes.
//
// begin() tells every rank which collective this one calls. No byte is received
// before all ranks have called the same: a rank with another size, type,
// reduction or root is named while all data is still as it was. (A root that
// only sends waits for nobody, and may have copied its own input by then.)
//
// Errors: PeerError. Nobody waits longer than the time-out, all survivors name
// the same rank, and the transport is of no use afterwards. One owner thread.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

#include "ch02_hardware/reduction/dtype.h"

namespace dai::hardware {

enum class Collective : std::uint8_t {
  kAllReduce,
  kReduce,
  kBroadcast,
  kAllGather,
  kReduceScatter,
  kGather,
  kScatter,
  kAllToAll,
  kBarrier,
  kSendReceive,
};
const char* to_string(Collective what);  // "all_reduce"
bool reduces(Collective what);

// Bytes between this rank and one other.
struct PairBytes {
  std::uint64_t to = 0, from = 0;
};

// What must be equal on all ranks, and where this rank's data lies.
struct Call {
  Collective what = Collective::kBarrier;
  std::uint64_t count = 0;  // elements, in the collective's own sense
  DType dtype = DType::kFloat32;
  ReduceOp op = ReduceOp::kSum;
  std::int32_t root = -1;       // -1: none
  std::uint32_t algorithm = 0;  // any number that tells algorithms apart
  const void* input = nullptr;  // for ranks that can read it directly
  void* output = nullptr;
  // By rank, where ranks send each other different amounts: what one sends must
  // be what the other expects. Then there is no input and no output.
  const PairBytes* pairs = nullptr;
};

// A rank died, left, stopped answering or called something else.
struct PeerError : std::runtime_error {
  PeerError(int culprit_rank, const std::string& what)
      : std::runtime_error(what), culprit(culprit_rank) {}
  int culprit;  // -1: nobody in particular
};

// Received elements are combined instead of stored:
//   data[i] = with[i] op received[i]
// Equal bits on two ranks that combine the same pair need the same order there.
struct Combine {
  DType dtype;
  ReduceOp op;
  const void* with;
  bool received_first = false;  // data[i] = received[i] op with[i]
};

struct Outgoing {
  int to;
  const void* data;
  std::size_t bytes;
};
struct Incoming {
  int from;
  void* data;
  std::size_t bytes;
  const Combine* combine = nullptr;
};

class SharedWindow;

class Transport {
 public:
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string medium() const = 0;  // "threads", "shm", "tcp",
                                           // "shm+tcp", "mpi"
  // Ranks with the same number share a node's memory.
  virtual int node_of(int /*rank*/) const { return 0; }

  // Collective; see above. Waits only where the call before last is unfinished
  // on another rank.
  virtual void begin(const Call& call) = 0;
  // Returns when every other rank has begun this collective, too.
  virtual void wait_for_all() = 0;

  // Sends and receives all of them at the same time, and returns when the data
  // has left and come. A rank appears at most once among each.
  virtual void exchange(std::span<const Outgoing> outgoing,
                        std::span<const Incoming> incoming) = 0;

  // Direct sight of the other ranks' memory, where there is such a thing.
  virtual SharedWindow* window() { return nullptr; }

  void send(int to, const void* data, std::size_t bytes) {
    const Outgoing one{to, data, bytes};
    exchange({&one, 1}, {});
  }
  void receive(int from, void* data, std::size_t bytes,
               const Combine* combine = nullptr) {
    const Incoming one{from, data, bytes, combine};
    exchange({}, {&one, 1});
  }
  void exchange(const Outgoing& out, const Incoming& in) {
    exchange(std::span{&out, 1}, std::span{&in, 1});
  }
};

// The memory of ranks on one node. Two ways to see it: a slot of each rank that
// all of them map, for what is small; and reads and writes at the addresses
// that the ranks gave to begin().
class SharedWindow {
 public:
  static constexpr std::size_t kSlotBytes = 16384;

  virtual ~SharedWindow() = default;
  // This rank's slot for the next begin(), which publishes it.
  virtual std::byte* next_slot() = 0;
  // Slots of the current call, after wait_for_all().
  virtual const std::byte* slot(int rank) const = 0;

  // Whether read() and write() work here; the kernel may forbid them
  // (process_vm_readv(2): Yama, seccomp).
  virtual bool reaches_memory() const = 0;
  // [offset, offset + bytes) of that rank's input, or output.
  virtual void read_input(int rank, std::size_t offset, void* into,
                          std::size_t bytes) = 0;
  virtual void write_output(int rank, std::size_t offset, const void* from,
                            std::size_t bytes) = 0;
  // Returns when every rank of the window has come here: its memory is then
  // its own again.
  virtual void meet() = 0;
};

}  // namespace dai::hardware
