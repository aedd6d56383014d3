// SPDX-License-Identifier: Apache-2.0
#pragma once

// The memory that the ranks of a node share: between threads ordinary memory,
// between processes a memory file (memfd_create(2)). Such a file has no name:
// it is gone with the last process that maps it, however that one ended, so
// nothing can be left behind under /dev/shm, nor does the size of /dev/shm
// (64 MB in most containers) matter.
//
//   layout: for each rank a door, for each ordered pair of ranks a lane of
//   256 KiB; less of more than 11 ranks, 32 MB in all, but not below 16 KiB
//
// A lane is a ring of bytes and a ring of notes with one writer and one reader.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ch02_hardware/transport/note.h"

namespace dai::hardware {

// Every rank's text, by rank, on all ranks; blocking, and collective.
using Bootstrap =
    std::function<std::vector<std::string>(const std::string& mine)>;

inline constexpr std::size_t kCacheLine = 64;

// What one rank shows to all others.
struct Door {
  // A rank that sleeps says so, and sleeps on `bell` (futex(2)).
  alignas(kCacheLine) std::atomic<std::uint32_t> bell{0};
  std::atomic<std::uint32_t> parked{0};
  // How often it has come to SharedWindow::meet().
  alignas(kCacheLine) std::atomic<std::uint64_t> met{0};
  // 1: this rank can read and write the others' memory; 2: it cannot.
  std::atomic<std::uint32_t> reaches{0};
  // Collectives alternate between the two.
  alignas(kCacheLine) std::byte slots[2][SharedWindow::kSlotBytes];
};

struct Lane {
  struct Cell {
    std::atomic<std::uint64_t> full{0};
    Note note;
  };
  static_assert(sizeof(Cell) == kCacheLine);
  static constexpr std::size_t kCells = 8;

  alignas(kCacheLine) std::atomic<std::uint64_t> written{0};  // bytes, ever
  alignas(kCacheLine) std::atomic<std::uint64_t> read{0};
  alignas(kCacheLine) Cell cells[kCells];
};

class SharedSegment {
 public:
  static std::shared_ptr<SharedSegment> of_threads(int ranks);
  // Collective over processes of one node. Throws std::runtime_error of one
  // line when rank 0's memory cannot be opened from here (another container).
  static std::shared_ptr<SharedSegment> of_processes(
      int rank, int ranks, const Bootstrap& bootstrap);
  ~SharedSegment();
  SharedSegment(const SharedSegment&) = delete;
  SharedSegment& operator=(const SharedSegment&) = delete;

  int ranks() const { return ranks_; }
  Door& door(int rank);
  Lane& lane(int from, int to);
  std::byte* lane_bytes(int from, int to);
  // Of each lane; a multiple of the cache line.
  std::size_t lane_size() const { return lane_size_; }

  // Whether the rank's process lives. It holds a lock on one byte of the file,
  // which the kernel takes away from it at its end. Threads: always true.
  bool alive(int rank) const;
  // Of that rank; 0 between threads.
  int process_of(int rank) const { return processes_[rank]; }

 private:
  SharedSegment(int ranks, int fd);  // takes the descriptor
  std::size_t lane_at(int from, int to) const;

  // Rank 0's half of of_processes(): what the others need to open it.
  static std::string create(int ranks, std::shared_ptr<SharedSegment>& made);
  static std::shared_ptr<SharedSegment> open_invited(
      int rank, int ranks, const std::string& invitation);

  const int ranks_;
  const std::size_t lane_size_;
  const int fd_;  // -1: threads
  std::byte* memory_ = nullptr;
  std::vector<int> processes_;
};

}  // namespace dai::hardware
