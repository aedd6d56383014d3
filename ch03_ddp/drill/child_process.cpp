// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/drill/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string_view>
#include <system_error>
#include <thread>

namespace dai::ddp {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

namespace {

bool is_a_launchers(std::string_view variable) {
  constexpr std::array<std::string_view, 9> kPrefixes{
      "RANK=",  "LOCAL_RANK=",   "WORLD_SIZE=", "LOCAL_WORLD_SIZE=", "MASTER_",
      "GROUP_", "TORCHELASTIC_", "ROLE_",       "DAI_STATUS_DIR="};
  for (const std::string_view prefix : kPrefixes) {
    if (variable.starts_with(prefix)) return true;
  }
  return false;
}

std::string whole_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

pid_t parent_of(const fs::path& process) {
  const std::string stat = whole_file(process / "stat");
  const auto name_end = stat.rfind(')');
  if (name_end == std::string::npos) return -1;
  int parent = -1;
  char state = 0;
  std::sscanf(stat.c_str() + name_end + 1, " %c %d", &state, &parent);
  return state == 'Z' ? -1 : parent;
}

std::optional<int> rank_of(const fs::path& process) {
  const std::string environment = whole_file(process / "environ");
  for (std::size_t at = 0; at < environment.size();) {
    const std::string_view one = environment.c_str() + at;
    if (one.starts_with("RANK=")) return std::atoi(one.data() + 5);
    at += one.size() + 1;
  }
  return std::nullopt;
}

}  // namespace

ChildProcess::ChildProcess(const std::vector<std::string>& command,
                           const fs::path& log) {
  std::vector<char*> arguments, environment;
  for (const std::string& word : command) {
    arguments.push_back(const_cast<char*>(word.c_str()));
  }
  arguments.push_back(nullptr);
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!is_a_launchers(*variable)) environment.push_back(*variable);
  }
  environment.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, log.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  const int error = posix_spawn(&pid_, command.front().c_str(), &actions,
                                nullptr, arguments.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    throw std::system_error(error, std::generic_category(), command.front());
  }
}

ChildProcess::~ChildProcess() {
  for (const int signal : {SIGTERM, SIGKILL}) {
    if (poll()) return;
    ::kill(pid_, signal);
    for (int i = 0; i < 100 && !poll(); ++i) std::this_thread::sleep_for(100ms);
  }
}

std::map<int, pid_t> ChildProcess::rank_pids() const {
  std::map<int, pid_t> pids;
  std::error_code gone;
  for (const auto& entry : fs::directory_iterator("/proc", gone)) {
    const std::string name = entry.path().filename().string();
    const auto pid = static_cast<pid_t>(std::atoi(name.c_str()));
    if (pid <= 0 || parent_of(entry.path()) != pid_) continue;
    if (const auto rank = rank_of(entry.path())) pids[*rank] = pid;
  }
  return pids;
}

std::optional<int> ChildProcess::poll() {
  int status = 0;
  if (!code_ && ::waitpid(pid_, &status, WNOHANG) == pid_) {
    code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  return code_;
}

int ChildProcess::wait() {
  while (!poll()) std::this_thread::sleep_for(20ms);
  return *code_;
}

}  // namespace dai::ddp
