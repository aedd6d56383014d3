// SPDX-License-Identifier: Apache-2.0
#include "tests/support/child_ranks.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string_view>
#include <thread>

extern char** environ;

namespace dai::testing {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// A test that itself runs under a launcher must not pass its variables on.
bool is_launchers(std::string_view entry) {
  for (const std::string_view prefix :
       {"RANK=", "LOCAL_RANK=", "WORLD_SIZE=", "LOCAL_WORLD_SIZE=", "GROUP_",
        "ROLE_", "MASTER_", "TORCHELASTIC_", "DAI_MASTER_", "DAI_STATUS_",
        "OMPI_", "PMIX_", "SLURM_"}) {
    if (entry.starts_with(prefix)) return true;
  }
  return false;
}

std::string read_all(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

ChildRanks::ChildRanks(const std::string& program)
    : program_(fs::read_symlink("/proc/self/exe").parent_path() / program) {
  std::string pattern = fs::temp_directory_path() / "dai_ranks_XXXXXX";
  if (!mkdtemp(pattern.data())) throw std::runtime_error("mkdtemp failed");
  folder_ = pattern;
}

ChildRanks::~ChildRanks() {
  for (const Child& child : children_) {
    if (child.result.ended) continue;
    kill(child.pid, SIGKILL);
    waitpid(child.pid, nullptr, 0);
  }
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

void ChildRanks::start(const std::vector<std::string>& arguments,
                       const ChildEnvironment& environment, int inherit_fd) {
  if (children_.empty()) begin_ = Clock::now();
  Child child;
  child.output_path = fmt::format("{}/{}.txt", folder_, children_.size());

  // All allocation happens before fork().
  std::vector<std::string> words{program_};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> variables;
  for (char** entry = environ; *entry; ++entry) {
    if (!is_launchers(*entry)) variables.emplace_back(*entry);
  }
  for (const auto& [name, value] : environment) {
    variables.push_back(name + "=" + value);
  }
  std::vector<char*> argv, envp;
  for (std::string& word : words) argv.push_back(word.data());
  for (std::string& variable : variables) envp.push_back(variable.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);

  child.pid = fork();
  if (child.pid < 0) throw std::runtime_error("fork failed");
  if (child.pid == 0) {
    const int out =
        open(child.output_path.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    if (inherit_fd >= 0) fcntl(inherit_fd, F_SETFD, 0);
    execve(program_.c_str(), argv.data(), envp.data());
    _exit(127);
  }
  children_.push_back(child);
}

std::vector<ChildResult> ChildRanks::wait(std::chrono::milliseconds limit) {
  const auto deadline = Clock::now() + limit;
  const auto all_ended = [&] {
    return std::all_of(children_.begin(), children_.end(), [](const Child& c) {
      return c.result.ended || c.result.stopped;
    });
  };
  while (!all_ended() && Clock::now() < deadline) {
    for (Child& child : children_) {
      int status = 0;
      if (child.result.ended || child.result.stopped ||
          waitpid(child.pid, &status, WNOHANG | WUNTRACED) != child.pid) {
        continue;
      }
      if (WIFSTOPPED(status)) {
        child.result.stopped = true;
        continue;
      }
      child.result.ended = true;
      child.result.code =
          WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      child.result.seconds =
          std::chrono::duration<double>(Clock::now() - begin_).count();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  std::vector<ChildResult> results;
  for (Child& child : children_) {
    child.result.output = read_all(child.output_path);
    results.push_back(child.result);
  }
  return results;
}

Listener::Listener() {
  fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (fd_ < 0 || bind(fd_, generic, length) != 0 || listen(fd_, 16) != 0 ||
      getsockname(fd_, generic, &length) != 0) {
    throw std::runtime_error("cannot listen on 127.0.0.1");
  }
  port_ = ntohs(address.sin_port);
}

Listener::~Listener() {
  close(fd_);
}

}  // namespace dai::testing
