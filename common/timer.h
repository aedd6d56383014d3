// SPDX-License-Identifier: Apache-2.0
#pragma once

// Clocks that only go forward. Wall-clock time of day may be stepped by NTP in
// the middle of a measurement; nothing here reads it.
//
//   Stopwatch comm;                        // where does the time go?
//   for (...) { StopwatchLap lap(comm); all_reduce(gradients); }
//   fmt::print("{:.1f} ms in {} laps\n", comm.total_ms(), comm.laps());

#include <chrono>
#include <cstdint>

namespace dai {

// Microseconds of the steady clock, with fractions. Its zero is arbitrary and
// another one on each host: see trace.h for comparing them.
inline double steady_us() {
  return std::chrono::duration<double, std::micro>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

class WallTimer {
 public:
  double ms() const { return (steady_us() - start_us_) / 1e3; }
  double seconds() const { return ms() / 1e3; }
  void restart() { start_us_ = steady_us(); }

 private:
  double start_us_ = steady_us();
};

// Adds up laps; one thread.
class Stopwatch {
 public:
  void add_ms(double ms) {
    total_ms_ += ms;
    ++laps_;
  }
  double total_ms() const { return total_ms_; }
  std::int64_t laps() const { return laps_; }

 private:
  double total_ms_ = 0;
  std::int64_t laps_ = 0;
};

class StopwatchLap {
 public:
  explicit StopwatchLap(Stopwatch& watch) : watch_(watch) {}
  ~StopwatchLap() { watch_.add_ms(timer_.ms()); }
  StopwatchLap(const StopwatchLap&) = delete;
  StopwatchLap& operator=(const StopwatchLap&) = delete;

 private:
  Stopwatch& watch_;
  WallTimer timer_;
};

}  // namespace dai
