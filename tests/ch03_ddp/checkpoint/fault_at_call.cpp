// SPDX-License-Identifier: Apache-2.0

// Preloaded into a program: counts its calls that change files under one folder
// and makes the n-th one its last, or fails it as a full disk would. The
// program knows nothing of it.
//
//   LD_PRELOAD=libfault_at_call.so FAULT_UNDER=/tmp/run FAULT_AT=7 PROGRAM
//
// FAULT_HOW   before: dies instead of the call; after: dies behind it; half: of
//             a write, half of it arrives before it dies; enospc: the call and
//             all later writes fail with ENOSPC
// FAULT_IN    counts only calls on paths with that in them
// FAULT_RANK  of whose RANK it is; others only count. Default 0
// FAULT_LOG   file to which the number of calls is added at a normal end
// Only in the first attempt of a launcher (TORCHELASTIC_RESTART_COUNT 0).

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

std::string setting(const char* name, const char* otherwise) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : otherwise;
}

struct Fault {
  std::string under = setting("FAULT_UNDER", "");
  std::string in = setting("FAULT_IN", "");
  std::string how = setting("FAULT_HOW", "before");
  std::string log = setting("FAULT_LOG", "");
  long at = std::atol(setting("FAULT_AT", "0").c_str());
  bool armed = setting("RANK", "0") == setting("FAULT_RANK", "0") &&
               setting("TORCHELASTIC_RESTART_COUNT", "0") == "0";
  std::atomic<long> calls{0};
  std::atomic<bool> full{false};

  ~Fault() {
    if (log.empty() || !armed) return;
    if (FILE* const file = std::fopen(log.c_str(), "a")) {
      std::fprintf(file, "%ld\n", calls.load());
      std::fclose(file);
    }
  }
};

Fault& fault() {
  static Fault the_fault;
  return the_fault;
}

bool counts(const std::string& path) {
  const Fault& f = fault();
  return f.armed && !f.under.empty() && path.rfind(f.under, 0) == 0 &&
         path.find(f.in) != std::string::npos;
}

bool counts_fd(int fd) {
  char path[PATH_MAX];
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t n = readlink(link.c_str(), path, sizeof path - 1);
  return n > 0 && counts(std::string(path, static_cast<std::size_t>(n)));
}

[[noreturn]] void die() {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

// Around one call. `call` does it; `half` does a part of it.
template <typename Call, typename Half>
auto with_fault(bool counted, bool writes, const Call& call, const Half& half)
    -> decltype(call()) {
  Fault& f = fault();
  if (!counted) return call();
  const bool now = ++f.calls == f.at;
  if (now && f.how == "enospc") f.full = true;
  if (f.full && (now || writes)) {
    errno = ENOSPC;
    return -1;
  }
  if (!now) return call();
  if (f.how == "half") half();
  if (f.how == "after") call();
  die();
}

template <typename Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

ssize_t write(int fd, const void* data, size_t bytes) {
  static const auto real = next<ssize_t (*)(int, const void*, size_t)>("write");
  return with_fault(
      counts_fd(fd), true, [&] { return real(fd, data, bytes); },
      [&] { real(fd, data, bytes / 2); });
}

int fsync(int fd) {
  static const auto real = next<int (*)(int)>("fsync");
  return with_fault(counts_fd(fd), true, [&] { return real(fd); }, [] {});
}

int rename(const char* from, const char* to) {
  static const auto real = next<int (*)(const char*, const char*)>("rename");
  return with_fault(counts(to), false, [&] { return real(from, to); }, [] {});
}

int mkdir(const char* path, mode_t mode) {
  static const auto real = next<int (*)(const char*, mode_t)>("mkdir");
  return with_fault(
      counts(path), false, [&] { return real(path, mode); }, [] {});
}

int unlink(const char* path) {
  static const auto real = next<int (*)(const char*)>("unlink");
  return with_fault(counts(path), false, [&] { return real(path); }, [] {});
}

}  // extern "C"
