// SPDX-License-Identifier: Apache-2.0
#pragma once

// Ends this process, with a line on stderr and exit code 1, when a stage takes
// longer than it may: a store whose server was stopped answers nobody, and its
// client cannot be interrupted.
//
//   Watchdog watchdog(rank, world_size, host);
//   watchdog.expect("ping", 10s);   // each call replaces the one before
//   watchdog.done();

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace dai::intro {

class Watchdog {
 public:
  Watchdog(int rank, int world_size, std::string host);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  void expect(const std::string& stage, std::chrono::milliseconds limit);
  void done();

 private:
  void watch();
  const int rank_;
  const int world_size_;
  const std::string host_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string stage_;
  std::chrono::milliseconds limit_{0};
  std::chrono::steady_clock::time_point deadline_ =
      std::chrono::steady_clock::time_point::max();
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace dai::intro
