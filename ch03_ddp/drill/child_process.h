// SPDX-License-Identifier: Apache-2.0
#pragma once

// A launcher with its ranks, seen from outside: started with its output in a
// file, its ranks found by what they were told, and gone when this is.
//
//   ChildProcess run({"dai_launch", ..., "ch03_ddp_train"}, "run.log");
//   kill(run.rank_pids().at(2), SIGKILL);
//   run.wait()        // its exit code

#include <sys/types.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace dai::ddp {

class ChildProcess {
 public:
  // The environment is this process's, without what a launcher has put there.
  // Throws std::system_error.
  ChildProcess(const std::vector<std::string>& command,
               const std::filesystem::path& log);
  // SIGTERM, and SIGKILL where that does not help within seconds.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // Its children that are ranks, by rank.
  std::map<int, pid_t> rank_pids() const;
  // None while it runs; else its exit code, 128 + n after signal n.
  std::optional<int> poll();
  int wait();

 private:
  pid_t pid_ = -1;
  std::optional<int> code_;
};

}  // namespace dai::ddp
