// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/bottleneck/resource_meter.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <string>

#include "common/timer.h"

namespace dai::intro {
namespace {

// One open file a thread: /proc/thread-self names whoever opened it.
class RunDelay {
 public:
  RunDelay() : fd_(open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC)) {}
  ~RunDelay() {
    if (fd_ >= 0) close(fd_);
  }
  RunDelay(const RunDelay&) = delete;
  RunDelay& operator=(const RunDelay&) = delete;

  // "nanoseconds on a core, nanoseconds waiting for one, slices"
  double ms() const {
    char text[96];
    const ssize_t n = fd_ < 0 ? -1 : pread(fd_, text, sizeof text - 1, 0);
    if (n <= 0) return std::numeric_limits<double>::quiet_NaN();
    text[n] = '\0';
    char* second = nullptr;
    std::strtoull(text, &second, 10);
    return static_cast<double>(std::strtoull(second, nullptr, 10)) / 1e6;
  }

 private:
  int fd_;
};

}  // namespace

ResourceUse& ResourceUse::operator+=(const ResourceUse& other) {
  wall_ms += other.wall_ms;
  cpu_ms += other.cpu_ms;
  run_delay_ms += other.run_delay_ms;
  voluntary_switches += other.voluntary_switches;
  involuntary_switches += other.involuntary_switches;
  return *this;
}

ResourceUse operator-(const ResourceUse& a, const ResourceUse& b) {
  return {
      .wall_ms = a.wall_ms - b.wall_ms,
      .cpu_ms = a.cpu_ms - b.cpu_ms,
      .run_delay_ms = a.run_delay_ms - b.run_delay_ms,
      .voluntary_switches = a.voluntary_switches - b.voluntary_switches,
      .involuntary_switches = a.involuntary_switches - b.involuntary_switches};
}

ResourceUse resource_use() {
  thread_local const RunDelay delay;
  timespec cpu{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return {.wall_ms = steady_us() / 1e3,
          .cpu_ms = static_cast<double>(cpu.tv_sec) * 1e3 +
                    static_cast<double>(cpu.tv_nsec) / 1e6,
          .run_delay_ms = delay.ms(),
          .voluntary_switches = static_cast<double>(usage.ru_nvcsw),
          .involuntary_switches = static_cast<double>(usage.ru_nivcsw)};
}

NodeUse node_use() {
  // "cpu  user nice system idle iowait irq softirq steal ..."
  std::ifstream file("/proc/stat");
  std::string word;
  double ticks[8] = {}, total = 0;
  file >> word;
  for (double& value : ticks) {
    file >> value;
    total += value;
  }
  if (!file || word != "cpu") {
    const double nothing = std::numeric_limits<double>::quiet_NaN();
    return {.busy_ms = nothing, .total_ms = nothing};
  }
  const double ms = 1e3 / static_cast<double>(sysconf(_SC_CLK_TCK));
  return {.busy_ms = (total - ticks[3] - ticks[4]) * ms,
          .total_ms = total * ms};
}

double busy_share(const NodeUse& before, const NodeUse& after) {
  const double total = after.total_ms - before.total_ms;
  if (!(total > 0)) return std::numeric_limits<double>::quiet_NaN();
  return std::clamp((after.busy_ms - before.busy_ms) / total, 0.0, 1.0);
}

}  // namespace dai::intro
