// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/selfcheck/watchdog.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "ch01_intro/selfcheck/judge.h"
#include "common/errors.h"

namespace dai::intro {

using Clock = std::chrono::steady_clock;

Watchdog::Watchdog(int rank, int world_size, std::string host)
    : rank_(rank), world_size_(world_size), host_(std::move(host)) {
  thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Watchdog::expect(const std::string& stage,
                      std::chrono::milliseconds limit) {
  {
    const std::lock_guard lock(mutex_);
    stage_ = stage;
    limit_ = limit;
    deadline_ = Clock::now() + limit;
  }
  changed_.notify_one();
}

void Watchdog::done() {
  const std::lock_guard lock(mutex_);
  deadline_ = Clock::time_point::max();
}

void Watchdog::watch() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    const auto deadline = deadline_;
    if (deadline == Clock::time_point::max()) {
      changed_.wait(lock);
      continue;
    }
    changed_.wait_until(lock, deadline);
    if (ending_ || deadline != deadline_ || Clock::now() < deadline) continue;
    const Finding finding{
        stage_,
        host_,
        {rank_},
        false,
        fmt::format("no end of this stage within {} s", limit_.count() / 1e3),
        "answers from rank 0's store",
        "is rank 0 stopped, or its host gone?"};
    fmt::print(stderr, "ch01_selfcheck: [rank {}/{}] {}\n", rank_, world_size_,
               finding.line());
    std::fflush(nullptr);
    std::_Exit(kExitFailed);
  }
}

}  // namespace dai::intro
