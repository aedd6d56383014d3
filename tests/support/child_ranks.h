// SPDX-License-Identifier: Apache-2.0
#pragma once

// Runs one program as several ranks with hand-made environments, without any
// launcher: nobody kills the others when one dies, so what a rank does by
// itself can be seen.
//
//   ChildRanks ranks("connect_probe");        // beside the test's own binary
//   ranks.start({"--steps", "3"}, {{"RANK", "0"}, {"WORLD_SIZE", "1"}});
//   for (const ChildResult& r : ranks.wait(10s)) EXPECT_EQ(r.code, 0);
//
// Children run in a process group each and are killed by the destructor.

#include <sys/types.h>

#include <chrono>
#include <map>
#include <string>
#include <vector>

namespace dai::testing {

struct ChildResult {
  int code = -1;         // exit code, or 128 + signal
  bool ended = false;    // by itself, before the wait's limit
  bool stopped = false;  // by SIGSTOP, and nobody waits for it
  double seconds = 0;    // from start() of the first child to this one's end
  std::string output;    // stdout and stderr
};

using ChildEnvironment = std::map<std::string, std::string>;

class ChildRanks {
 public:
  explicit ChildRanks(const std::string& program);
  ~ChildRanks();
  ChildRanks(const ChildRanks&) = delete;
  ChildRanks& operator=(const ChildRanks&) = delete;

  // The child gets this process's environment without any launcher's
  // variables, then `environment`. `inherit_fd` >= 0 stays open in it.
  void start(const std::vector<std::string>& arguments,
             const ChildEnvironment& environment, int inherit_fd = -1);

  // One result a child, in the order of start().
  std::vector<ChildResult> wait(std::chrono::milliseconds limit);

 private:
  struct Child {
    pid_t pid = 0;
    std::string output_path;
    ChildResult result;
  };
  std::string program_;
  std::string folder_;
  std::vector<Child> children_;
  std::chrono::steady_clock::time_point begin_;
};

// A TCP socket that listens on a free port of 127.0.0.1; closes itself.
class Listener {
 public:
  Listener();
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  int fd() const { return fd_; }
  int port() const { return port_; }

 private:
  int fd_ = -1;
  int port_ = 0;
};

}  // namespace dai::testing
