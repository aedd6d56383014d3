// SPDX-License-Identifier: Apache-2.0
#include "common/launch/output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <stdexcept>
#include <utility>

#include "common/errors.h"

namespace dai::launch {
namespace {

constexpr EventLoop::Duration kHoldEchoes{0.2};
constexpr std::size_t kMaxHeldBytes = 64 * 1024;
constexpr std::size_t kRecentLines = 64;
constexpr std::size_t kTailLineBytes = 400;

bool writable_now(int fd) {
  pollfd wait{fd, POLLOUT, 0};
  return poll(&wait, 1, 0) > 0;
}

}  // namespace

// --- Output ----------------------------------------------------------------

Output::Output(EventLoop& loop, std::function<void(int error)> on_broken)
    : loop_(loop), on_broken_(std::move(on_broken)) {}

Output::~Output() {
  if (watched_ >= 0) loop_.unwatch(watched_);
}

void Output::write(int fd, std::string_view text) {
  if (broken_) return;
  queued_ += text.size();
  // Lines for the same descriptor share a chunk, to save system calls.
  if (!chunks_.empty() && chunks_.back().fd == fd &&
      chunks_.back().text.size() < kQueueBytes / 16) {
    chunks_.back().text += text;
  } else {
    chunks_.push_back({fd, std::string(text)});
  }
  if (watched_ < 0) write_some();
}

void Output::say(std::string_view line) {
  write(STDERR_FILENO, fmt::format("dai_launch: {}\n", line));
}

void Output::when_not_full(std::function<void()> callback) {
  on_space_ = std::move(callback);
}

// Making stdout non-blocking would make it so for our parent's shell as well,
// since they share it. But after POLLOUT a pipe takes at least PIPE_BUF bytes
// without blocking, so pieces of that size are safe.
void Output::write_some() {
  while (!chunks_.empty() && writable_now(chunks_.front().fd)) {
    const Chunk& chunk = chunks_.front();
    const std::size_t size =
        std::min<std::size_t>(chunk.text.size() - written_, PIPE_BUF);
    const ssize_t done = ::write(chunk.fd, chunk.text.data() + written_, size);
    if (done < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (done < 0) {
      const int error = errno;
      broken_ = true;
      chunks_.clear();
      queued_ = 0;
      watch_front();
      return on_broken_(error);
    }
    written_ += static_cast<std::size_t>(done);
    queued_ -= static_cast<std::size_t>(done);
    if (written_ == chunk.text.size()) {
      chunks_.pop_front();
      written_ = 0;
    }
  }
  watch_front();
}

void Output::watch_front() {
  const int wanted = chunks_.empty() ? -1 : chunks_.front().fd;
  if (wanted == watched_) return;
  if (watched_ >= 0) loop_.unwatch(watched_);
  watched_ = wanted;
  if (wanted < 0) return;
  loop_.watch(wanted, POLLOUT, [this](short) {
    const bool was_full = full();
    write_some();
    if (was_full && !full() && on_space_) on_space_();
  });
}

void Output::flush(EventLoop::Duration limit) {
  const auto end = EventLoop::Clock::now() + limit;
  while (!chunks_.empty() && EventLoop::Clock::now() < end) {
    pollfd wait{chunks_.front().fd, POLLOUT, 0};
    poll(&wait, 1, 50);
    write_some();
  }
}

// --- Echoes ----------------------------------------------------------------

bool Echoes::heard_from_another(int rank, std::string_view line) const {
  return std::any_of(recent_.begin(), recent_.end(), [&](const auto& entry) {
    return entry.first != rank && entry.second == line;
  });
}

void Echoes::remember(int rank, std::string_view line) {
  if (recent_.size() == kRecentLines) recent_.pop_front();
  recent_.emplace_back(rank, line.substr(0, kMaxHeldBytes));
}

// --- LogStream -------------------------------------------------------------

LogStream::LogStream(EventLoop& loop, Output& output, UniqueFd pipe,
                     LogSink sink)
    : loop_(loop),
      output_(output),
      pipe_(std::move(pipe)),
      sink_(std::move(sink)) {
  if (!sink_.file.empty()) {
    const std::filesystem::path path = sink_.file;
    std::error_code error;
    std::filesystem::create_directories(path.parent_path(), error);
    file_ = UniqueFd(
        open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!file_) {
      throw UsageError(fmt::format("cannot write {} (--log-dir): {}",
                                   sink_.file, error_text(errno)));
    }
  }
  set_non_blocking(pipe_.get());
  resume();
}

LogStream::~LogStream() {
  loop_.cancel(release_timer_);
  stop_watching();
}

void LogStream::stop_watching() {
  if (pipe_) loop_.unwatch(pipe_.get());
}

void LogStream::resume() {
  if (!pipe_) return;
  loop_.watch(pipe_.get(), POLLIN, [this](short) {
    // The rank's write() blocks while we do not read: that is the brake.
    if (output_.full()) return stop_watching();
    read_once();
  });
}

bool LogStream::read_once() {
  if (!pipe_) return false;
  std::array<char, 64 * 1024> bytes;
  const ssize_t got = read(pipe_.get(), bytes.data(), bytes.size());
  if (got < 0 && errno == EINTR) return true;
  if (got < 0 && errno == EAGAIN) return false;
  if (got <= 0) {
    stop_watching();
    pipe_.reset();
    return false;
  }
  take({bytes.data(), static_cast<std::size_t>(got)});
  return true;
}

void LogStream::take(std::string_view bytes) {
  // Lines that nobody looks at one by one travel as a block.
  const bool plain = sink_.tail_lines == 0 && sink_.prefix.empty();
  const auto last = plain ? bytes.rfind('\n') : std::string_view::npos;
  if (last != std::string_view::npos &&
      partial_.size() + bytes.find('\n') < kMaxLine) {
    partial_ += bytes.substr(0, last + 1);
    bytes.remove_prefix(last + 1);
    emit(std::exchange(partial_, {}));
  }
  while (!bytes.empty()) {
    const auto newline = bytes.find('\n');
    const std::size_t room = kMaxLine - partial_.size();
    if (newline != std::string_view::npos && newline < room) {
      partial_ += bytes.substr(0, newline + 1);
      bytes.remove_prefix(newline + 1);
    } else if (bytes.size() < room) {
      partial_ += bytes;
      return;
    } else {
      partial_ += bytes.substr(0, room);
      partial_ += '\n';
      bytes.remove_prefix(room);
    }
    on_line(std::exchange(partial_, {}));
  }
}

void LogStream::on_line(std::string line) {
  if (sink_.tail_lines > 0) {
    if (tail_.size() == sink_.tail_lines) tail_.pop_front();
    tail_.push_back(line.substr(0, std::min(line.size() - 1, kTailLineBytes)));
  }
  if (sink_.echoes == nullptr) return emit(line);
  const bool echo =
      line.size() > 1 && sink_.echoes->heard_from_another(sink_.rank, line);
  if (!echo && held_.empty()) return emit(line);
  // Behind a held line all wait, or the rank's lines would change their order.
  held_bytes_ += line.size();
  held_.push_back({std::move(line), echo});
  if (held_bytes_ > kMaxHeldBytes) return release(false);
  if (release_timer_ == 0) {
    release_timer_ = loop_.after(kHoldEchoes, [this] { release(false); });
  }
}

void LogStream::release(bool drop_echoes) {
  loop_.cancel(std::exchange(release_timer_, 0));
  held_bytes_ = 0;
  for (const Held& held : std::exchange(held_, {})) {
    if (!(held.echo && drop_echoes)) emit(held.line);
  }
}

void LogStream::emit(const std::string& line) {
  if (sink_.echoes != nullptr) sink_.echoes->remember(sink_.rank, line);
  if (sink_.console >= 0) {
    output_.write(sink_.console,
                  sink_.prefix.empty() ? line : sink_.prefix + line);
  }
  for (std::size_t at = 0; file_ && at < line.size();) {
    const ssize_t done =
        ::write(file_.get(), line.data() + at, line.size() - at);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) {
      throw std::runtime_error(fmt::format("cannot write {} (--log-dir): {}",
                                           sink_.file, error_text(errno)));
    }
    at += static_cast<std::size_t>(done);
  }
}

void LogStream::drain(bool refused) {
  // At most what the pipe holds: a child of the rank may go on writing.
  for (std::size_t reads = 0; reads < 64 && read_once(); ++reads) {
  }
  if (!partial_.empty()) on_line(std::exchange(partial_, {}) + "\n");
  release(refused);
}

}  // namespace dai::launch
