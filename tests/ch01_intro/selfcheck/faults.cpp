// SPDX-License-Identifier: Apache-2.0
// Faults for a program that knows nothing of them: preloaded (LD_PRELOAD) into
// one rank, this library answers for the kernel.
//
//   FAULT_CLOCK_S=3600    the wall clock is an hour fast
//   FAULT_KERNEL=5.10.0   uname() tells another release
//   FAULT_WIRE=1          tensors arrive from a socket with a flipped bit
#include <dlfcn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace {

template <class Function>
Function real(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

// Text (a store's answers) has no byte of zero; small integers held in floats
// have two in each. The bit is the highest of a significand: the value changes
// and stays finite.
void spoil(int fd, void* buffer, ssize_t bytes) {
  struct stat about{};
  if (bytes < 1024 || !std::getenv("FAULT_WIRE") || fstat(fd, &about) != 0 ||
      !S_ISSOCK(about.st_mode) || !std::memchr(buffer, 0, 16)) {
    return;
  }
  static_cast<unsigned char*>(buffer)[bytes / 8 * 4 + 2] ^= 0x40;
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* time) {
  static const auto next = real<int (*)(clockid_t, timespec*)>("clock_gettime");
  const int rc = next(clock, time);
  const char* shift = std::getenv("FAULT_CLOCK_S");
  if (rc == 0 && shift && clock == CLOCK_REALTIME) {
    time->tv_sec += std::atol(shift);
  }
  return rc;
}

int uname(utsname* name) {
  static const auto next = real<int (*)(utsname*)>("uname");
  const int rc = next(name);
  if (const char* release = std::getenv("FAULT_KERNEL")) {
    std::strncpy(name->release, release, sizeof name->release - 1);
  }
  return rc;
}

ssize_t read(int fd, void* buffer, size_t bytes) {
  static const auto next = real<ssize_t (*)(int, void*, size_t)>("read");
  const ssize_t got = next(fd, buffer, bytes);
  spoil(fd, buffer, got);
  return got;
}

ssize_t recv(int fd, void* buffer, size_t bytes, int flags) {
  static const auto next = real<ssize_t (*)(int, void*, size_t, int)>("recv");
  const ssize_t got = next(fd, buffer, bytes, flags);
  spoil(fd, buffer, got);
  return got;
}

}  // extern "C"
