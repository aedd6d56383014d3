// SPDX-License-Identifier: Apache-2.0
#include "common/rank_status.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace dai {
namespace {

constexpr std::uint64_t kMagic = 0x3153'5453'4941'44ULL;  // "DAISTS1"
constexpr std::size_t kTextWords = kRankStatusTextBytes / 8;

// CLOCK_MONOTONIC counts from boot, so writer and reader, two processes of
// one machine, may subtract each other's values.
std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// The file's layout as plain integers, which is how the reader sees it.
struct Image {
  std::uint64_t magic;
  std::uint64_t sequence;  // odd while a write is going on
  std::int64_t since_ns;
  std::uint32_t inside;
  std::uint32_t length;
  std::uint64_t text[kTextWords];
};

bool read_exactly(int fd, void* into, std::size_t bytes, off_t at) {
  return pread(fd, into, bytes, at) == static_cast<ssize_t>(bytes);
}

}  // namespace

// The same layout for the writer. Every field is a relaxed atomic: a seqlock's
// reader looks at words that are being changed, and only the sequence number
// tells it to throw the copy away.
struct RankStatusWriter::Page {
  std::atomic<std::uint64_t> magic;
  std::atomic<std::uint64_t> sequence;
  std::atomic<std::int64_t> since_ns;
  std::atomic<std::uint32_t> inside;
  std::atomic<std::uint32_t> length;
  std::atomic<std::uint64_t> text[kTextWords];
};

std::filesystem::path rank_status_path(const std::filesystem::path& folder,
                                       int rank) {
  return folder / fmt::format("rank_{}.status", rank);
}

std::unique_ptr<RankStatusWriter> RankStatusWriter::from_environment(int rank) {
  const char* folder = std::getenv("DAI_STATUS_DIR");
  if (folder == nullptr || *folder == '\0') return nullptr;
  return std::make_unique<RankStatusWriter>(rank_status_path(folder, rank));
}

RankStatusWriter::RankStatusWriter(const std::filesystem::path& path) {
  static_assert(sizeof(Page) == sizeof(Image));
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  // Allocated here, not by the first store: storing into a hole of a full
  // file system would end the process with SIGBUS.
  const int error = fd < 0 ? errno : posix_fallocate(fd, 0, sizeof(Page));
  void* memory = MAP_FAILED;
  if (error == 0) {
    memory =
        mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  const int map_error = error != 0 ? error : errno;
  if (fd >= 0) close(fd);
  if (memory == MAP_FAILED) {
    throw std::runtime_error(
        fmt::format("cannot use the status file {} (DAI_STATUS_DIR): {}",
                    path.string(), std::generic_category().message(map_error)));
  }
  page_ = static_cast<Page*>(memory);
  // A predecessor's half-written text must not look like ours.
  page_->sequence.store(0, std::memory_order_relaxed);
  page_->magic.store(kMagic, std::memory_order_release);
}

RankStatusWriter::~RankStatusWriter() {
  munmap(page_, sizeof(Page));
}

void RankStatusWriter::set(std::string_view text) {
  publish(true, &text);
}

void RankStatusWriter::leave() {
  publish(false, nullptr);
}

void RankStatusWriter::publish(bool inside, const std::string_view* text) {
  // Each of these stores is a release: none may become visible before the odd
  // number. (One fence would do the same, but thread sanitizers ignore it.)
  constexpr auto order = std::memory_order_release;
  const auto sequence = page_->sequence.load(std::memory_order_relaxed);
  page_->sequence.store(sequence + 1, order);
  page_->since_ns.store(now_ns(), order);
  page_->inside.store(inside ? 1 : 0, order);
  if (text != nullptr) {
    const std::size_t length = std::min(text->size(), kRankStatusTextBytes);
    page_->length.store(static_cast<std::uint32_t>(length), order);
    for (std::size_t at = 0; at < length; at += 8) {
      std::uint64_t word = 0;
      const auto bytes = std::min<std::size_t>(8, length - at);
      std::memcpy(&word, text->data() + at, bytes);
      page_->text[at / 8].store(word, order);
    }
  }
  page_->sequence.store(sequence + 2, order);
}

// Reads with pread() rather than through a mapping: a file that is cut short
// meanwhile then gives a short count instead of SIGBUS.
std::optional<RankStatusInfo> read_rank_status(
    const std::filesystem::path& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return std::nullopt;
  std::optional<RankStatusInfo> info;
  constexpr off_t kSequenceAt = offsetof(Image, sequence);
  for (int tries = 0; tries < 1000 && !info; ++tries) {
    std::uint64_t before = 0;
    std::uint64_t after = 0;
    Image image{};
    if (!read_exactly(fd, &before, sizeof(before), kSequenceAt) ||
        !read_exactly(fd, &image, sizeof(image), 0) ||
        !read_exactly(fd, &after, sizeof(after), kSequenceAt)) {
      break;
    }
    if (image.magic != kMagic || after == 0) break;
    if (before != after || before % 2 != 0) continue;
    if (image.length > kRankStatusTextBytes) break;
    info = RankStatusInfo{
        std::string(reinterpret_cast<const char*>(image.text), image.length),
        image.inside != 0,
        std::max(0.0, static_cast<double>(now_ns() - image.since_ns) * 1e-9)};
  }
  close(fd);
  return info;
}

}  // namespace dai
