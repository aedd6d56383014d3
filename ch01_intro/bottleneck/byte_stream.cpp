// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/bottleneck/byte_stream.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "common/errors.h"
#include "common/timer.h"

namespace dai::intro {
namespace {

std::string of_rank(std::string path, int rank) {
  const std::string mark = "{rank}";
  const std::size_t at = path.find(mark);
  if (at != std::string::npos) {
    path.replace(at, mark.size(), std::to_string(rank));
  }
  return path;
}

}  // namespace

ByteStream::ByteStream(const std::string& path, int rank, int ranks,
                       std::int64_t timeout_s)
    : path_(of_rank(path, rank)), timeout_s_(timeout_s) {
  // Non-blocking: a pipe without a writer would hold open() for ever.
  fd_ = open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd_ < 0) {
    throw UsageError(fmt::format("{}: {}", path_, std::strerror(errno)));
  }
  struct stat about{};
  fstat(fd_, &about);
  regular_ = S_ISREG(about.st_mode);
  std::string wrong;
  if (!regular_ && !S_ISFIFO(about.st_mode)) {
    wrong = "a file or a named pipe is expected";
  } else if (regular_ && about.st_size == 0) {
    wrong = "is empty";
  }
  if (!wrong.empty()) {
    close(fd_);
    throw UsageError(fmt::format("{}: {}", path_, wrong));
  }
  if (regular_) lseek(fd_, about.st_size / ranks * rank, SEEK_SET);
}

ByteStream::~ByteStream() {
  close(fd_);
}

void ByteStream::wait_for_data() const {
  const double end = steady_us() + static_cast<double>(timeout_s_) * 1e6;
  for (;;) {
    pollfd one{.fd = fd_, .events = POLLIN, .revents = 0};
    const double left_ms = (end - steady_us()) / 1e3;
    const int found =
        left_ms > 0 ? poll(&one, 1, static_cast<int>(left_ms) + 1) : 0;
    if (found > 0) return;
    if (found == 0) {
      throw std::runtime_error(
          fmt::format("{}: no byte for {} s, after {} bytes: does its writer "
                      "still run?",
                      path_, timeout_s_, bytes_read_));
    }
    if (errno != EINTR) {
      throw std::system_error(errno, std::generic_category(), path_);
    }
  }
}

void ByteStream::read(std::span<unsigned char> bytes) {
  while (!bytes.empty()) {
    wait_for_data();
    const ssize_t n = ::read(fd_, bytes.data(), bytes.size());
    if (n > 0) {
      bytes_read_ += n;
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    } else if (n == 0 && regular_) {
      lseek(fd_, 0, SEEK_SET);
    } else if (n == 0) {
      throw std::runtime_error(
          fmt::format("{}: its writer ended after {} bytes, and training "
                      "needs more",
                      path_, bytes_read_));
    } else if (errno != EAGAIN && errno != EINTR) {
      throw std::system_error(errno, std::generic_category(), path_);
    }
  }
}

}  // namespace dai::intro
