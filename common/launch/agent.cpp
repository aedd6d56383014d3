// SPDX-License-Identifier: Apache-2.0
#include "common/launch/agent.h"

#include <fmt/format.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "common/errors.h"
#include "common/launch/guardian.h"
#include "common/launch/rank_environment.h"
#include "common/launch/rendezvous_client.h"
#include "common/launch/rendezvous_server.h"
#include "common/launch/worker_group.h"

namespace dai::launch {
namespace {

std::filesystem::path make_scratch() {
  std::string name =
      (std::filesystem::temp_directory_path() / "dai_launch.XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) {
    throw std::system_error(errno, std::generic_category(),
                            "cannot make the folder " + name);
  }
  return name;
}

// Signals become readable events of the loop instead of interrupting it.
UniqueFd make_signal_fd() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGCHLD}) sigaddset(&set, signal);
  struct sigaction hangup{};
  sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) sigaddset(&set, SIGHUP);  // not nohup
  // Inherited as ignored, SIGCHLD would make our children vanish unseen.
  signal(SIGCHLD, SIG_DFL);
  signal(SIGPIPE, SIG_IGN);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  return UniqueFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

bool is_code(const std::system_error& error, std::errc code) {
  return error.code() == std::make_error_code(code);
}

class Agent {
 public:
  explicit Agent(const LaunchOptions& options);
  int run();

 private:
  using Json = RendezvousClient::Json;

  void on_signals();
  void on_message(const Json& message);
  void on_need_master(int attempt);
  void on_start(const Json& message);
  void on_stop(const Json& message);
  void on_failed(const Failure& failure);
  void on_ended();
  void on_broken_output(int error);
  void print(const Failure& failure);
  void leave(int code, const std::string& reason, int signal);
  UniqueFd host_rendezvous();
  bool over() const;

  const LaunchOptions options_;
  const std::string host_;
  const std::filesystem::path scratch_;
  UniqueFd signals_;
  Guardian guardian_;  // forks, so before sockets and the loop
  EventLoop loop_;
  Output output_;
  std::string meeting_host_;
  int meeting_port_ = 0;
  std::unique_ptr<RendezvousServer> server_;  // on one node of the job
  std::unique_ptr<RendezvousClient> client_;
  std::unique_ptr<WorkerGroup> group_;
  UniqueFd master_listener_;  // between need_master and start
  int attempt_ = -1;
  bool failed_ = false;    // in this attempt, on this node
  bool stopping_ = false;  // told to stop, has to answer `stopped`
  std::vector<std::string> ranks_at_failure_;
  std::optional<int> exit_code_;
};

Agent::Agent(const LaunchOptions& options)
    : options_(options),
      host_(host_name()),
      scratch_(make_scratch()),
      signals_(make_signal_fd()),
      guardian_(scratch_),
      output_(loop_, [this](int error) { on_broken_output(error); }) {
  loop_.watch(signals_.get(), POLLIN, [this](short) { on_signals(); });
  if (UniqueFd listener = host_rendezvous()) {
    server_ = std::make_unique<RendezvousServer>(loop_, std::move(listener),
                                                 options_);
  }
  client_ = std::make_unique<RendezvousClient>(
      loop_, options_, meeting_host_, meeting_port_,
      RendezvousClient::Handlers{
          [this](const Json& message) { on_message(message); },
          [this](const std::string& why) {
            output_.say(why);
            leave(kExitFailed, why, SIGTERM);
          }});
}

// Where the job meets, and the listening socket if that is here.
UniqueFd Agent::host_rendezvous() {
  if (options_.max_nodes == 1) {
    UniqueFd listener = listen_on("127.0.0.1", 0);
    meeting_host_ = "127.0.0.1";
    meeting_port_ = local_port(listener.get());
    return listener;
  }
  const bool is_static = options_.rdzv_host.empty();
  meeting_host_ = is_static ? options_.master_addr : options_.rdzv_host;
  meeting_port_ = is_static ? options_.master_port : options_.rdzv_port;
  // Without numbers, the agent that can bind the endpoint hosts it.
  if (options_.node_rank > 0) return {};
  const bool must_host = options_.node_rank == 0;
  try {
    UniqueFd listener = listen_on(meeting_host_, meeting_port_);
    const std::string address = local_address(listener.get());
    if (is_loopback(address) && !is_loopback(meeting_host_) &&
        meeting_host_ != "localhost") {
      output_.say(
          fmt::format("{} is {} here, which other machines cannot "
                      "reach (see /etc/hosts)",
                      meeting_host_, address));
    }
    return listener;
  } catch (const std::system_error& error) {
    if (must_host && is_code(error, std::errc::address_not_available)) {
      // The address of a service in front of this node: take every interface.
      UniqueFd listener = listen_on("", meeting_port_);
      meeting_host_ = "localhost";
      return listener;
    }
    if (must_host) {
      throw UsageError(
          fmt::format("node 0 cannot host the rendezvous at {}: {}",
                      endpoint_name(meeting_host_, meeting_port_),
                      error_text(error.code().value())));
    }
  } catch (const std::runtime_error&) {
    // A name that does not resolve; the client tries again and reports it.
    if (must_host) throw;
  }
  return {};
}

bool Agent::over() const {
  return exit_code_ && (!group_ || group_->ended()) &&
         (!server_ || server_->drained());
}

int Agent::run() {
  try {
    while (!over()) loop_.run_once();
  } catch (...) {
    group_.reset();
    output_.flush(std::chrono::seconds(1));
    throw;
  }
  output_.flush(std::chrono::seconds(2));
  return *exit_code_;
}

// The agent ends before the job: told so, cut off, or with nobody reading it.
void Agent::leave(int code, const std::string& reason, int signal) {
  if (exit_code_) return;
  exit_code_ = code;
  if (client_) {
    client_->send({{"type", "leave"}, {"reason", reason}});
    client_->close();
  }
  if (server_) server_->abort(reason);
  if (group_) group_->stop(signal);
}

// `dai_launch ... | head` ends like any program in a pipe; a full disk is a
// failure. Whatever queue there was is gone, so stderr is written directly.
void Agent::on_broken_output(int error) {
  const std::string why =
      fmt::format("cannot write the ranks' output: {}", error_text(error));
  if (error != EPIPE) fmt::print(stderr, "dai_launch: {}\n", why);
  leave(error == EPIPE ? 128 + SIGPIPE : kExitFailed, why, SIGTERM);
}

void Agent::on_signals() {
  signalfd_siginfo info{};
  while (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGCHLD) {
      if (group_) group_->reap();
    } else if (exit_code_) {
      if (group_) group_->kill_now();  // asked twice: at once
    } else {
      output_.say(fmt::format("{}: ending all ranks", signal_name(signal)));
      leave(128 + signal,
            fmt::format("{} on host {}", signal_name(signal), host_), signal);
    }
  }
}

void Agent::on_message(const Json& message) {
  const std::string type = message.at("type");
  if (type == "need_master") {
    on_need_master(message.at("attempt"));
  } else if (type == "start") {
    on_start(message);
  } else if (type == "stop") {
    on_stop(message);
  } else if (type == "ranks") {
    for (const auto& line : message.at("lines")) {
      output_.say(line.get<std::string>());
    }
  } else if (type == "finish") {
    const std::string reason = message.at("reason");
    if (!reason.empty()) output_.say(reason);
    exit_code_ = message.at("code").get<int>();
    client_->close();
    if (group_) group_->stop(SIGTERM);
  }
}

// Rank 0 will run here: bind its store's port now and pass the socket on. A
// port that was only looked up and closed again could be gone by then.
void Agent::on_need_master(int attempt) {
  std::string address = client_->local_address();
  if (!options_.master_addr.empty()) address = options_.master_addr;
  if (!options_.local_addr.empty()) address = options_.local_addr;
  // In the static form of several nodes, the given port is the agents' own.
  const bool agents_port = options_.max_nodes > 1 && options_.rdzv_host.empty();
  const int port = agents_port ? 0 : options_.master_port;
  try {
    try {
      master_listener_ = listen_on(address, port);
    } catch (const std::system_error& error) {
      if (!is_code(error, std::errc::address_not_available)) throw;
      master_listener_ = listen_on("", port);
    }
  } catch (const std::system_error& error) {
    if (port == 0) throw;
    throw UsageError(fmt::format("--master-port {} cannot be used here: {}",
                                 port, error_text(error.code().value())));
  }
  client_->send({{"type", "master"},
                 {"attempt", attempt},
                 {"addr", address},
                 {"port", local_port(master_listener_.get())}});
}

void Agent::on_start(const Json& message) {
  GroupPlan plan;
  message.at("attempt").get_to(plan.attempt);
  message.at("world_size").get_to(plan.world_size);
  message.at("rank_offset").get_to(plan.rank_offset);
  message.at("group_rank").get_to(plan.group_rank);
  message.at("group_world_size").get_to(plan.group_world_size);
  message.at("master_addr").get_to(plan.master_addr);
  message.at("master_port").get_to(plan.master_port);
  plan.master_listener = std::move(master_listener_);
  if (attempt_ < 0 && getenv("OMP_NUM_THREADS") == nullptr) {
    output_.say(fmt::format(
        "OMP_NUM_THREADS was unset, now {} in each rank ({} core{}, {} rank{})",
        threads_per_rank(options_.nproc_per_node), usable_cores(),
        usable_cores() == 1 ? "" : "s", options_.nproc_per_node,
        options_.nproc_per_node == 1 ? "" : "s"));
  }
  if (plan.attempt > 0) {
    output_.say(fmt::format("attempt {}: WORLD_SIZE {}, nodes {}", plan.attempt,
                            plan.world_size, plan.group_world_size));
  }
  attempt_ = plan.attempt;
  failed_ = false;
  stopping_ = false;
  ranks_at_failure_.clear();
  group_ = std::make_unique<WorkerGroup>(
      loop_, output_, guardian_, options_, scratch_,
      WorkerGroup::Handlers{[this](const Failure& f) { on_failed(f); },
                            [this] { on_ended(); }});
  group_->start(std::move(plan));
}

void Agent::on_failed(const Failure& failure) {
  failed_ = true;
  // Now, while the other ranks still are where the failure met them.
  ranks_at_failure_ = group_->describe_ranks();
  client_->send(
      {{"type", "failed"}, {"attempt", attempt_}, {"failure", failure}});
}

void Agent::on_stop(const Json& message) {
  message.at("attempt").get_to(attempt_);
  if (group_ && !failed_) ranks_at_failure_ = group_->describe_ranks();
  if (message.contains("failure")) {
    print(message.at("failure").get<Failure>());
  } else {
    output_.say(message.at("reason").get<std::string>());
  }
  stopping_ = true;
  master_listener_.reset();
  if (!group_ || group_->ended()) return on_ended();
  group_->stop(SIGTERM);
}

void Agent::on_ended() {
  if (stopping_) {
    client_->send({{"type", "stopped"},
                   {"attempt", attempt_},
                   {"code", group_ ? group_->code() : kExitOk}});
  } else if (!failed_) {
    client_->send({{"type", "done"}, {"attempt", attempt_}});
  }
}

void Agent::print(const Failure& failure) {
  output_.say(failure.describe());
  if (failure.is_refusal()) return;
  client_->send(
      {{"type", "ranks"}, {"attempt", attempt_}, {"lines", ranks_at_failure_}});
  for (const auto& line : ranks_at_failure_) output_.say(line);
  if (failure.tail.empty()) return;
  output_.say(
      fmt::format("the last lines of rank {} on stderr:", failure.rank));
  for (const auto& line : failure.tail) {
    output_.write(STDERR_FILENO, fmt::format("  | {}\n", line));
  }
}

}  // namespace

int run_agent(const LaunchOptions& options) {
  return Agent(options).run();
}

}  // namespace dai::launch
