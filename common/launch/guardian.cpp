// SPDX-License-Identifier: Apache-2.0
#include "common/launch/guardian.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <system_error>

namespace dai::launch {
namespace {

struct Note {
  pid_t group;
  bool alive;
};

[[noreturn]] void guard(int pipe, const std::filesystem::path& scratch) {
  prctl(PR_SET_NAME, "dai_guardian");
  // A session of its own: neither Ctrl-C nor a kill of the launcher's process
  // group may take the guardian along.
  setsid();
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, nullptr);
  // Held open, the launcher's stdout would keep `dai_launch ... | less` from
  // seeing the end.
  const int null = open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd) dup2(null, fd);
  dup2(pipe, 3);
  close_range(4, ~0U, 0);

  std::set<pid_t> groups;
  Note note{};
  for (;;) {
    // Notes are far below PIPE_BUF: they come whole or not at all.
    const ssize_t got = read(3, &note, sizeof(note));
    if (got < 0 && errno == EINTR) continue;
    if (got != static_cast<ssize_t>(sizeof(note))) break;
    note.alive ? void(groups.insert(note.group))
               : void(groups.erase(note.group));
  }
  for (const pid_t group : groups) kill(-group, SIGKILL);
  std::error_code ignored;
  std::filesystem::remove_all(scratch, ignored);
  _exit(0);
}

}  // namespace

Guardian::Guardian(const std::filesystem::path& scratch) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    throw std::system_error(errno, std::generic_category(), "pipe");
  }
  UniqueFd reading(ends[0]);
  pipe_ = UniqueFd(ends[1]);
  pid_ = fork();
  if (pid_ < 0) {
    throw std::system_error(errno, std::generic_category(), "fork");
  }
  if (pid_ == 0) guard(reading.get(), scratch);
}

Guardian::~Guardian() {
  pipe_.reset();
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void Guardian::add(pid_t group) {
  if (!tell(group, true)) {
    throw std::system_error(errno, std::generic_category(),
                            "the guardian process is gone");
  }
}

// A guardian that is gone has no list to take the group from.
void Guardian::remove(pid_t group) noexcept {
  tell(group, false);
}

bool Guardian::tell(pid_t group, bool alive) noexcept {
  const Note note{group, alive};
  return write(pipe_.get(), &note, sizeof(note)) == sizeof(note);
}

}  // namespace dai::launch
