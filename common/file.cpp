// SPDX-License-Identifier: Apache-2.0
#include "common/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <system_error>
#include <utility>

#include "common/errors.h"

namespace dai {
namespace fs = std::filesystem;

namespace {

[[noreturn]] void fail(std::string_view doing, const fs::path& path) {
  const int error = errno;
  const std::string what = fmt::format("cannot {} '{}'", doing, path.string());
  switch (error) {
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case EACCES:
    case EPERM:
    case EROFS:
    case ELOOP:
    case ENAMETOOLONG:
    case ENXIO:
      throw UsageError(what + ": " + std::generic_category().message(error));
    default:
      throw std::system_error(error, std::generic_category(), what);
  }
}

// Closes on every way out; reading needs no look at close()'s answer.
struct Descriptor {
  int fd;
  ~Descriptor() { ::close(fd); }
};

Descriptor open_to_read(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail("open", path);
  return {fd};
}

}  // namespace

AtomicFile::AtomicFile(const fs::path& target) : target_(target) {
  struct stat info;
  if (::stat(target.c_str(), &info) == 0) {
    if (!S_ISREG(info.st_mode)) {
      // A pipe that nobody reads is refused instead of waited for.
      fd_ = ::open(target.c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK);
      if (fd_ < 0) fail("write", target_);
      ::fcntl(fd_, F_SETFL, 0);
      return;
    }
    target_ = fs::canonical(target);  // a link stays a link
  }
  // O_EXCL with a counter: a name left by a killed process of the same pid, or
  // used by another node on a shared folder, is passed over, never reused.
  static std::atomic<unsigned> counter{0};
  do {
    temporary_ = target_;
    temporary_ += fmt::format(".tmp-{}-{}", ::getpid(), counter++);
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                 0666);
  } while (fd_ < 0 && errno == EEXIST);
  if (fd_ < 0) fail("write", target_);
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("write", target_);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

void AtomicFile::commit() {
  // The data must be on disk before the name is: some file systems order a
  // rename before the writes, and a power cut would leave an empty file.
  if (!temporary_.empty() && ::fsync(fd_) != 0) fail("write", target_);
  if (::close(std::exchange(fd_, -1)) != 0) fail("write", target_);
  if (temporary_.empty()) return;
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
    fail("write", target_);
  }
  temporary_.clear();
  const fs::path folder =
      target_.has_parent_path() ? target_.parent_path() : fs::path(".");
  const Descriptor dir = open_to_read(folder);
  // EINVAL: a file system that knows no fsync of folders (some FUSE mounts).
  if (::fsync(dir.fd) != 0 && errno != EINVAL) fail("sync", folder);
}

void write_file_atomically(const fs::path& path,
                           std::span<const std::byte> bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

void write_file_atomically(const fs::path& path, std::string_view text) {
  write_file_atomically(path, std::as_bytes(std::span(text)));
}

std::string first_line_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string read_file(const fs::path& path, std::size_t most) {
  const Descriptor file = open_to_read(path);
  std::string text;
  while (text.size() < most) {
    constexpr std::size_t kChunk = 1 << 16;
    const std::size_t have = text.size();
    text.resize(have + std::min(kChunk, most - have));
    const ssize_t n = ::read(file.fd, text.data() + have, text.size() - have);
    const std::size_t got = n > 0 ? static_cast<std::size_t>(n) : 0;
    text.resize(have + got);
    if (n < 0 && errno != EINTR) fail("read", path);
    if (n == 0) break;
  }
  return text;
}

MappedFile::MappedFile(const fs::path& path) {
  const Descriptor file = open_to_read(path);
  struct stat info;
  if (::fstat(file.fd, &info) != 0) fail("read", path);
  if (!S_ISREG(info.st_mode)) {
    throw UsageError(
        fmt::format("cannot map '{}': not a regular file", path.string()));
  }
  const auto size = static_cast<std::size_t>(info.st_size);
  if (size == 0) return;  // mmap refuses length 0; an empty span says it all
  void* at = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (at == MAP_FAILED) fail("map", path);
  bytes_ = {static_cast<const std::byte*>(at), size};
}

MappedFile::~MappedFile() {
  if (bytes_.empty()) return;
  ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace dai
