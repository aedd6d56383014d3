// SPDX-License-Identifier: Apache-2.0
#pragma once

// One thread waiting for many things: file descriptors and timers. The whole
// launcher hangs on one such loop, which is why it needs no locks.
//
//   EventLoop loop;
//   loop.watch(fd, POLLIN, [&](short) { read_some(); });
//   loop.after(std::chrono::seconds(5), [&] { give_up(); });
//   while (!done) loop.run_once();
//
// Callbacks may add and remove watches and timers, their own included. They
// must not block; watched descriptors should be non-blocking.

#include <poll.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>

namespace dai::launch {

class EventLoop {
 public:
  using Clock = std::chrono::steady_clock;
  using Duration = std::chrono::duration<double>;
  using TimerId = std::uint64_t;

  // Replaces an earlier watch of the same descriptor.
  void watch(int fd, short events, std::function<void(short)> callback);
  void unwatch(int fd);

  TimerId after(Duration delay, std::function<void()> callback);
  void cancel(TimerId id);  // an id that has fired or is 0 is fine

  // Waits for the next event, at most `limit`, and calls what is due.
  void run_once(Duration limit = std::chrono::seconds(1));

 private:
  struct Watch {
    short events;
    std::function<void(short)> callback;
  };
  struct Timer {
    Clock::time_point due;
    std::function<void()> callback;
  };
  std::map<int, std::shared_ptr<Watch>> watches_;
  std::map<TimerId, Timer> timers_;
  TimerId last_timer_ = 0;
};

}  // namespace dai::launch
