// SPDX-License-Identifier: Apache-2.0
#include "common/launch/event_loop.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <system_error>
#include <utility>
#include <vector>

namespace dai::launch {

void EventLoop::watch(int fd, short events,
                      std::function<void(short)> callback) {
  watches_[fd] = std::make_shared<Watch>(Watch{events, std::move(callback)});
}

void EventLoop::unwatch(int fd) {
  watches_.erase(fd);
}

EventLoop::TimerId EventLoop::after(Duration delay,
                                    std::function<void()> callback) {
  const auto due =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(delay);
  timers_.emplace(++last_timer_, Timer{due, std::move(callback)});
  return last_timer_;
}

void EventLoop::cancel(TimerId id) {
  timers_.erase(id);
}

void EventLoop::run_once(Duration limit) {
  auto until =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(limit);
  for (const auto& [id, timer] : timers_) until = std::min(until, timer.due);

  std::vector<pollfd> fds;
  std::vector<std::shared_ptr<Watch>> asked;
  for (const auto& [fd, watch] : watches_) {
    fds.push_back({fd, watch->events, 0});
    asked.push_back(watch);
  }
  // Rounded up: rounded down, the loop would spin through the last millisecond.
  const Duration wait = std::max(Duration(0), Duration(until - Clock::now()));
  const int wait_ms = static_cast<int>(std::ceil(wait.count() * 1e3));
  if (poll(fds.data(), fds.size(), wait_ms) < 0) {
    if (errno != EINTR) {
      throw std::system_error(errno, std::generic_category(), "poll");
    }
    fds.clear();
  }
  for (std::size_t i = 0; i < fds.size(); ++i) {
    if (fds[i].revents == 0) continue;
    // An earlier callback of this round may have closed the descriptor, and
    // its number may already belong to somebody else.
    const auto now = watches_.find(fds[i].fd);
    if (now == watches_.end() || now->second != asked[i]) continue;
    asked[i]->callback(fds[i].revents);
  }

  std::vector<TimerId> due;
  for (const auto& [id, timer] : timers_) {
    if (timer.due <= Clock::now()) due.push_back(id);
  }
  for (const TimerId id : due) {
    const auto timer = timers_.find(id);
    if (timer == timers_.end()) continue;  // cancelled by the one before
    const auto callback = std::move(timer->second.callback);
    timers_.erase(timer);
    callback();
  }
}

}  // namespace dai::launch
