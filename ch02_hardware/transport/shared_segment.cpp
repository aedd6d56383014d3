// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/transport/shared_segment.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace dai::hardware {
namespace {

// All lanes together; enough for a pipeline of pieces in each.
constexpr std::size_t kAllLanes = std::size_t{32} << 20;

std::size_t lane_size_for(int ranks) {
  const std::size_t pairs = std::max(1, ranks * (ranks - 1));
  const std::size_t fair = kAllLanes / pairs / 4096 * 4096;
  return std::clamp<std::size_t>(fair, 16384, 262144);
}

std::size_t whole_pages(std::size_t bytes) {
  return (bytes + 4095) / 4096 * 4096;
}

constexpr std::size_t kDoorBytes = (sizeof(Door) + 4095) / 4096 * 4096;
constexpr std::size_t kKeyBytes = 4096;  // a page at the end, for the key

std::size_t lane_bytes_for(int ranks) {
  return whole_pages(sizeof(Lane)) + lane_size_for(ranks);
}
std::size_t bytes_for(int ranks) {
  return ranks * kDoorBytes + ranks * (ranks - 1) * lane_bytes_for(ranks) +
         kKeyBytes;
}

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error(fmt::format("shared memory: {}: {}", what,
                                       std::generic_category().message(errno)));
}

// The key at the end of the file: another namespace's process may have the
// same number, and a file under the same descriptor.
std::string random_key() {
  std::uint64_t words[2];
  if (getrandom(words, sizeof words, 0) != sizeof words) fail("getrandom");
  return fmt::format("{:016x}{:016x}", words[0], words[1]);
}

struct Fd {
  int fd = -1;
  ~Fd() {
    if (fd >= 0) close(fd);
  }
  int release() { return std::exchange(fd, -1); }
};

void lock_byte(int fd, int rank) {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = rank;
  lock.l_len = 1;
  if (fcntl(fd, F_SETLK, &lock) != 0) fail("lock");
}

}  // namespace

SharedSegment::SharedSegment(int ranks, int fd)
    : ranks_(ranks),
      lane_size_(lane_size_for(ranks)),
      fd_(fd),
      processes_(ranks, 0) {
  const int how = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
  const std::size_t bytes = bytes_for(ranks);
  void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, how, fd, 0);
  if (at == MAP_FAILED) {
    const int error = errno;
    if (fd >= 0) close(fd);
    errno = error;
    fail(fmt::format("cannot map {} bytes", bytes));
  }
  memory_ = static_cast<std::byte*>(at);
}

SharedSegment::~SharedSegment() {
  munmap(memory_, bytes_for(ranks_));
  if (fd_ >= 0) close(fd_);
}

std::size_t SharedSegment::lane_at(int from, int to) const {
  const int others_before = to < from ? to : to - 1;
  return ranks_ * kDoorBytes +
         (from * (ranks_ - 1) + others_before) * lane_bytes_for(ranks_);
}

Door& SharedSegment::door(int rank) {
  return *std::launder(reinterpret_cast<Door*>(memory_ + rank * kDoorBytes));
}
Lane& SharedSegment::lane(int from, int to) {
  return *std::launder(reinterpret_cast<Lane*>(memory_ + lane_at(from, to)));
}
std::byte* SharedSegment::lane_bytes(int from, int to) {
  return memory_ + lane_at(from, to) + whole_pages(sizeof(Lane));
}

std::shared_ptr<SharedSegment> SharedSegment::of_threads(int ranks) {
  // Zero pages are valid doors and lanes.
  return std::shared_ptr<SharedSegment>(new SharedSegment(ranks, -1));
}

std::string SharedSegment::create(int ranks,
                                  std::shared_ptr<SharedSegment>& segment) {
  Fd file{memfd_create("dai-collectives", MFD_CLOEXEC)};
  if (file.fd < 0) fail("memfd_create");
  const std::string key = random_key();
  const auto bytes = static_cast<off_t>(bytes_for(ranks));
  // Allocated now: memory that runs out later would be a SIGBUS.
  errno = posix_fallocate(file.fd, 0, bytes);
  if (errno != 0) fail(fmt::format("{} bytes", bytes));
  const int fd = file.release();
  segment.reset(new SharedSegment(ranks, fd));
  std::memcpy(segment->memory_ + bytes - kKeyBytes, key.data(), key.size());
  lock_byte(fd, 0);
  return fmt::format("{} {} {}", getpid(), fd, key);
}

std::shared_ptr<SharedSegment> SharedSegment::open_invited(
    int rank, int ranks, const std::string& invitation) {
  long process = 0;
  int number = -1;
  char key[33] = {};
  if (std::sscanf(invitation.c_str(), "%ld %d %32s", &process, &number, key) !=
      3) {
    throw std::runtime_error("shared memory: rank 0 has none");
  }
  const std::string path = fmt::format("/proc/{}/fd/{}", process, number);
  Fd file{open(path.c_str(), O_RDWR | O_CLOEXEC)};
  if (file.fd < 0) fail(path);
  const auto bytes = static_cast<off_t>(bytes_for(ranks));
  char found[33] = {};
  if (pread(file.fd, found, 32, bytes - kKeyBytes) != 32 ||
      std::strcmp(found, key) != 0) {
    throw std::runtime_error("shared memory: " + path +
                             " is another process's file");
  }
  lock_byte(file.fd, rank);
  return std::shared_ptr<SharedSegment>(
      new SharedSegment(ranks, file.release()));
}

// Whatever fails on one rank, all of them ask the bootstrap twice.
std::shared_ptr<SharedSegment> SharedSegment::of_processes(
    int rank, int ranks, const Bootstrap& bootstrap) {
  // Yama lets a process be read by relatives of the one named here: the
  // launcher, and so its other children. Without Yama this does nothing.
  prctl(PR_SET_PTRACER, getppid());

  std::shared_ptr<SharedSegment> segment;
  std::string invitation, mine = std::to_string(getpid());
  const auto attempt = [&](auto what) {
    try {
      what();
    } catch (const std::exception& error) {
      mine = fmt::format("! {}", error.what());
    }
  };
  if (rank == 0) attempt([&] { invitation = create(ranks, segment); });
  const std::string invited = bootstrap(invitation).front();
  if (rank != 0) {
    attempt([&] { segment = open_invited(rank, ranks, invited); });
  }
  const auto all = bootstrap(mine);
  for (int r = 0; r < ranks; ++r) {
    if (all[r].starts_with("! ")) {
      throw std::runtime_error(fmt::format(
          "ranks cannot share memory: rank {}: {}", r, all[r].substr(2)));
    }
    segment->processes_[r] = std::stoi(all[r]);
  }
  return segment;
}

bool SharedSegment::alive(int rank) const {
  if (fd_ < 0) return true;
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = rank;
  lock.l_len = 1;
  if (fcntl(fd_, F_GETLK, &lock) != 0) return true;  // nobody knows
  return lock.l_type != F_UNLCK;
}

}  // namespace dai::hardware
