// SPDX-License-Identifier: Apache-2.0
#pragma once

// The ranks of one node during one attempt: started, watched, and ended.
//
//   WorkerGroup group(loop, output, guardian, options, scratch, handlers);
//   group.start(plan);                  // once
//   ...on SIGCHLD: group.reap();
//   group.stop(SIGTERM);                // then on_ended, within 5 s
//
// Every rank leads a process group of its own, so that the programs it starts
// end with it; its stdin is /dev/null, since a background group that reads
// the terminal would be stopped. Ended ranks stay zombies until the whole
// group has ended: that keeps their numbers from being given to strangers
// whom we would then kill.
//
// start() throws UsageError when the program cannot be executed and
// std::system_error when the machine is out of processes or descriptors.

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/launch/event_loop.h"
#include "common/launch/failure.h"
#include "common/launch/guardian.h"
#include "common/launch/options.h"
#include "common/launch/output.h"
#include "common/launch/rank_environment.h"

namespace dai::launch {

class WorkerGroup {
 public:
  struct Handlers {
    std::function<void(const Failure&)> on_failed;  // the first failure, once
    std::function<void()> on_ended;                 // no rank is left
  };

  WorkerGroup(EventLoop& loop, Output& output, Guardian& guardian,
              const LaunchOptions& options, std::filesystem::path scratch,
              Handlers handlers);
  ~WorkerGroup();  // kills what is left

  void start(GroupPlan plan);
  void reap();
  // Passes the signal on; what has not ended 3 s later is killed.
  void stop(int signal);
  void kill_now();
  bool ended() const { return ranks_.empty(); }

  // Of all ranks that ended by themselves, before stop().
  int code() const { return code_; }
  // A line per rank: "rank 0 (running) in all_reduce #17 ... for 3.1 s".
  std::vector<std::string> describe_ranks() const;

 private:
  struct Rank {
    int rank = 0;
    pid_t pid = -1;
    bool ended = false;
    EventLoop::Clock::time_point started;
    std::unique_ptr<LogStream> out;
    std::unique_ptr<LogStream> err;
  };

  void spawn(int local_rank);
  LogSink sink(int rank, StreamMask stream);
  std::string collective(const Rank& rank) const;
  void judge(std::vector<Failure> failed);
  void report();
  void signal_all(int signal);
  void end();
  std::filesystem::path status_dir() const;

  EventLoop& loop_;
  Output& output_;
  Guardian& guardian_;
  const LaunchOptions options_;
  const std::filesystem::path scratch_;
  Handlers handlers_;
  GroupPlan plan_;
  Echoes echoes_;
  std::vector<Rank> ranks_;
  std::unique_ptr<Failure> failure_;
  bool reported_ = false;
  bool stopping_ = false;
  int code_ = 0;
  EventLoop::TimerId grace_timer_ = 0;
  EventLoop::TimerId kill_timer_ = 0;
};

}  // namespace dai::launch
