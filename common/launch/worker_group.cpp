// SPDX-License-Identifier: Apache-2.0
#include "common/launch/worker_group.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string_view>
#include <system_error>
#include <utility>

#include "common/errors.h"
#include "common/rank_status.h"

namespace dai::launch {
namespace {

using Seconds = EventLoop::Duration;

// Together below the promised 5 s.
constexpr Seconds kTermToKill{3};
constexpr Seconds kKillToGone{1.5};
// After one rank's exit with 2 or 77, the time in which others may agree.
constexpr Seconds kRefusalGrace{1};
constexpr std::size_t kTailLines = 20;

struct Pipe {
  UniqueFd reading;
  UniqueFd writing;
};

Pipe make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    throw std::system_error(errno, std::generic_category(), "pipe");
  }
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// char* arrays for exec, made before fork().
std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (const auto& text : texts) {
    result.push_back(const_cast<char*>(text.c_str()));
  }
  result.push_back(nullptr);
  return result;
}

// Between fork and exec. Returns only when something failed, with errno.
void become_rank(pid_t launcher, const std::string& program, char** argv,
                 char** envp, int out, int err, int listener) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != launcher) _exit(1);  // it died before the line above
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null < 0 || dup2(null, STDIN_FILENO) < 0 ||
      dup2(out, STDOUT_FILENO) < 0 || dup2(err, STDERR_FILENO) < 0) {
    return;
  }
  if (listener >= 0) fcntl(listener, F_SETFD, 0);  // survives exec
  execve(program.c_str(), argv, envp);
}

bool is_stopped(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(file, text);
  // "pid (name) S ...": the name may hold anything, so look behind it.
  const auto end = text.rfind(") ");
  return end != std::string::npos &&
         (text[end + 2] == 'T' || text[end + 2] == 't');
}

}  // namespace

WorkerGroup::WorkerGroup(EventLoop& loop, Output& output, Guardian& guardian,
                         const LaunchOptions& options,
                         std::filesystem::path scratch, Handlers handlers)
    : loop_(loop),
      output_(output),
      guardian_(guardian),
      options_(options),
      scratch_(std::move(scratch)),
      handlers_(std::move(handlers)) {}

WorkerGroup::~WorkerGroup() {
  handlers_ = {};
  if (!ended()) {
    signal_all(SIGKILL);
    end();
  }
}

// --- Starting --------------------------------------------------------------

std::filesystem::path WorkerGroup::status_dir() const {
  return scratch_ / fmt::format("attempt_{}", plan_.attempt);
}

void WorkerGroup::start(GroupPlan plan) {
  plan_ = std::move(plan);
  std::filesystem::create_directories(status_dir());
  output_.when_not_full([this] {
    for (Rank& rank : ranks_) {
      rank.out->resume();
      rank.err->resume();
    }
  });
  for (int i = 0; i < options_.nproc_per_node; ++i) spawn(i);
  // Rank 0 has its copy. Ours would go on accepting connections for a rank 0
  // that is dead.
  plan_.master_listener.reset();
}

LogSink WorkerGroup::sink(int rank, StreamMask stream) {
  const bool is_err = stream == kStderr;
  const bool tee = (options_.tee & stream) != 0;
  const bool redirect = (options_.redirects & stream) != 0;
  LogSink sink;
  sink.rank = rank;
  if (!redirect || tee) sink.console = is_err ? STDERR_FILENO : STDOUT_FILENO;
  if (tee) sink.prefix = fmt::format("[rank {}]:", rank);
  if (tee || redirect) {
    sink.file = fmt::format("{}/attempt_{}/{}/{}.log", options_.log_dir,
                            plan_.attempt, rank, is_err ? "stderr" : "stdout");
  }
  if (is_err) {
    sink.tail_lines = kTailLines;
    if (!tee && !redirect) sink.echoes = &echoes_;
  }
  return sink;
}

void WorkerGroup::spawn(int local_rank) {
  const std::string program = find_program(options_.program.front());
  const auto environment =
      rank_environment(plan_, options_, local_rank, status_dir());
  auto argv = pointers(options_.program);
  auto envp = pointers(environment);
  Pipe out = make_pipe();
  Pipe err = make_pipe();
  Pipe exec_error = make_pipe();  // closed by a successful exec
  const bool is_rank0 = plan_.rank_offset + local_rank == 0;
  const int listener = is_rank0 ? plan_.master_listener.get() : -1;

  const pid_t launcher = getpid();
  const pid_t pid = fork();
  if (pid < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid == 0) {
    become_rank(launcher, program, argv.data(), envp.data(), out.writing.get(),
                err.writing.get(), listener);
    const int error = errno;
    (void)!write(exec_error.writing.get(), &error, sizeof(error));
    _exit(1);
  }
  setpgid(pid, pid);  // both sides do it: whoever comes second finds it done
  guardian_.add(pid);

  Rank rank;
  rank.rank = plan_.rank_offset + local_rank;
  rank.pid = pid;
  rank.started = EventLoop::Clock::now();
  rank.out = std::make_unique<LogStream>(loop_, output_, std::move(out.reading),
                                         sink(rank.rank, kStdout));
  rank.err = std::make_unique<LogStream>(loop_, output_, std::move(err.reading),
                                         sink(rank.rank, kStderr));
  ranks_.push_back(std::move(rank));

  exec_error.writing.reset();
  int error = 0;
  if (read(exec_error.reading.get(), &error, sizeof(error)) > 0) {
    throw UsageError(
        fmt::format("cannot start {}: {}", program, error_text(error)));
  }
}

// --- Watching --------------------------------------------------------------

void WorkerGroup::reap() {
  std::vector<Failure> failed;
  for (Rank& rank : ranks_) {
    siginfo_t info{};
    if (rank.ended || waitid(P_PID, static_cast<id_t>(rank.pid), &info,
                             WEXITED | WNOHANG | WNOWAIT) != 0) {
      continue;
    }
    if (info.si_pid == 0) continue;  // still running
    rank.ended = true;
    const bool by_signal = info.si_code != CLD_EXITED;
    Failure failure;
    failure.rank = rank.rank;
    failure.host = host_name();
    failure.pid = rank.pid;
    failure.signal = by_signal ? info.si_status : 0;
    failure.exit_code = by_signal ? 0 : info.si_status;
    failure.seconds = Seconds(EventLoop::Clock::now() - rank.started).count();
    rank.out->drain(failure.is_refusal());
    rank.err->drain(failure.is_refusal());
    if (stopping_ || failure.code() == kExitOk) continue;
    code_ = worse_code(code_, failure.code());
    failure.collective = collective(rank);
    failure.tail.assign(rank.err->tail().begin(), rank.err->tail().end());
    failed.push_back(std::move(failure));
  }
  if (!failed.empty()) judge(std::move(failed));
  const bool all_ended = std::all_of(ranks_.begin(), ranks_.end(),
                                     [](const Rank& r) { return r.ended; });
  if (all_ended && !ranks_.empty()) end();
}

// Which of the ranks that were found ended together was the first? A signal
// comes from outside, while an exit is often the answer to a lost peer.
void WorkerGroup::judge(std::vector<Failure> failed) {
  if (failure_) {
    // All ranks refuse together and one speaks for them: that one is named.
    if (reported_ || !failure_->tail.empty()) return;
    for (Failure& later : failed) {
      if (later.tail.empty() || !later.is_refusal()) continue;
      *failure_ = std::move(later);
      return;
    }
    return;
  }
  std::stable_sort(failed.begin(), failed.end(),
                   [](const Failure& a, const Failure& b) {
                     return std::pair(a.signal != 0, !a.tail.empty()) >
                            std::pair(b.signal != 0, !b.tail.empty());
                   });
  failure_ = std::make_unique<Failure>(failed.front());
  for (const Rank& rank : ranks_) {
    if (!rank.ended && is_stopped(rank.pid)) {
      failure_->stopped.push_back(rank.rank);
    }
  }
  if (!failure_->is_refusal()) return report();
  // Usually all ranks refuse the same flag; let each say so by itself.
  grace_timer_ = loop_.after(kRefusalGrace, [this] { report(); });
}

void WorkerGroup::report() {
  loop_.cancel(std::exchange(grace_timer_, 0));
  if (std::exchange(reported_, true) || !handlers_.on_failed) return;
  handlers_.on_failed(*failure_);
}

std::string WorkerGroup::collective(const Rank& rank) const {
  const auto info = read_rank_status(rank_status_path(status_dir(), rank.rank));
  if (!info) return "";
  return info->inside
             ? fmt::format("in {} for {:.1f} s", info->text, info->seconds)
             : fmt::format("outside collectives, {:.1f} s after {}",
                           info->seconds, info->text);
}

std::vector<std::string> WorkerGroup::describe_ranks() const {
  std::vector<std::string> lines;
  for (const Rank& rank : ranks_) {
    const std::string where = collective(rank);
    lines.push_back(
        fmt::format("  rank {} ({}) {}", rank.rank,
                    rank.ended             ? "ended"
                    : is_stopped(rank.pid) ? "stopped by a signal"
                                           : "running",
                    where.empty() ? "in no collective yet" : where));
  }
  return lines;
}

// --- Ending ----------------------------------------------------------------

void WorkerGroup::signal_all(int signal) {
  for (const Rank& rank : ranks_) kill(-rank.pid, signal);
}

void WorkerGroup::stop(int signal) {
  if (ended() || std::exchange(stopping_, true)) return;
  loop_.cancel(std::exchange(grace_timer_, 0));
  signal_all(signal);
  signal_all(SIGCONT);  // a stopped rank would not notice the first one
  kill_timer_ = loop_.after(kTermToKill, [this] { kill_now(); });
}

void WorkerGroup::kill_now() {
  stopping_ = true;
  signal_all(SIGKILL);
  loop_.cancel(kill_timer_);
  // A rank in an uninterruptible system call (a dead file server) outlives
  // SIGKILL; it is not waited for.
  kill_timer_ = loop_.after(kKillToGone, [this] {
    for (const Rank& rank : ranks_) {
      if (rank.ended) continue;
      output_.say(fmt::format("rank {} (pid {}) does not end after SIGKILL",
                              rank.rank, rank.pid));
    }
    end();
  });
}

void WorkerGroup::end() {
  if (failure_ && !stopping_) report();
  for (auto* timer : {&grace_timer_, &kill_timer_}) {
    loop_.cancel(std::exchange(*timer, 0));
  }
  signal_all(SIGKILL);  // children that the ranks left behind
  for (Rank& rank : ranks_) {
    rank.out->drain(false);
    rank.err->drain(false);
    guardian_.remove(rank.pid);
    waitpid(rank.pid, nullptr, rank.ended ? 0 : WNOHANG);
  }
  output_.when_not_full(nullptr);
  ranks_.clear();
  if (handlers_.on_ended) handlers_.on_ended();
}

}  // namespace dai::launch
