// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/selfcheck/selfcheck.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <optional>
#include <stdexcept>
#include <thread>

#include "ch01_intro/selfcheck/board.h"
#include "ch01_intro/selfcheck/watchdog.h"
#include "common/errors.h"
#include "common/log.h"
#include "common/rank_status.h"
#include "common/torch/device.h"

namespace dai::intro {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// The preflight of one rank. Ends early by throwing Alone, when rank 0 cannot
// be met; what is in `result_` by then is all that will be known.
class Preflight {
 public:
  Preflight(const LaunchContext& launch, const SelfcheckOptions& options)
      : launch_(launch),
        options_(options),
        limit_(std::chrono::seconds(options.distributed.timeout_s)),
        begin_(Clock::now()),
        status_(RankStatusWriter::from_environment(launch.rank)),
        watchdog_(launch.rank, launch.world_size, launch.host) {
    result_.rank = launch.rank;
    result_.ranks.resize(launch.world_size);
  }

  SelfcheckResult run(const std::function<void(const SelfcheckResult&)>& tell) {
    try {
      look_at_myself();
      arrive();
      ping();
      form_group();
      finish(tell);
    } catch (const Alone& alone) {
      mine().arrived = true;  // what it knows of itself counts
      auto& own = mine().facts.own;
      if (alone.finding) own.push_back(*alone.finding);
      result_.alone = true;
      result_.findings = own;
      tell(result_);
      linger();
    }
    return std::move(result_);
  }

 private:
  struct Alone {
    std::optional<Finding> finding;
  };

  RankReport& mine() { return result_.ranks[launch_.rank]; }
  bool is_rank0() const { return launch_.rank == 0; }
  Deadline in(double part) const {
    return Clock::now() +
           std::chrono::duration_cast<Clock::duration>(limit_ * part);
  }
  Finding finding(const char* check, const std::string& measured,
                  const std::string& expected,
                  const std::string& advice) const {
    return {check,    launch_.host, {launch_.rank}, false,
            measured, expected,     advice};
  }
  void stage(const char* name, double parts) {
    if (status_) status_->set(fmt::format("selfcheck: {}", name));
    spdlog::info("selfcheck: {}", name);
    watchdog_.expect(name, std::chrono::duration_cast<milliseconds>(
                               limit_ * parts + std::chrono::seconds(5)));
  }
  [[noreturn]] void rank0_is_silent(const char* check) const {
    throw Alone{finding(
        check, "rank 0 said nothing more",
        fmt::format("its answer within {} s", options_.distributed.timeout_s),
        "look at the process of rank 0: stopped, or dead?")};
  }

  std::string greeting();
  static void read_greeting(const std::string& text, RankFacts& facts);
  void look_at_myself();
  void choose_my_device();
  void resolve_master();
  void arrive();
  void ping();
  void form_group();
  std::string obstacle() const;
  void finish(const std::function<void(const SelfcheckResult&)>& tell);
  void linger() const;
  void mark_silent(int rank, const char* check);
  std::vector<int> present() const;

  const LaunchContext launch_;
  const SelfcheckOptions options_;
  const milliseconds limit_;
  const Clock::time_point begin_;
  std::unique_ptr<RankStatusWriter> status_;
  Watchdog watchdog_;
  std::vector<std::string> master_;  // its addresses
  std::unique_ptr<EchoServer> echo_;
  std::unique_ptr<Board> board_;
  SelfcheckResult result_;
};

// The CUDA half of torch must be loaded before torch is first used.
void Preflight::choose_my_device() {
  RankFacts& facts = mine().facts;
  std::string flag = options_.distributed.device;
  const std::string& backend = options_.distributed.backend;
  if (flag == "auto" && backend == "gloo") flag = "cpu";
  if (flag == "auto" && backend == "nccl") flag = "cuda";
  try {
    const at::Device device = choose_device(flag, launch_);
    facts.device = device.str();
    if (device.is_cuda()) facts.device_index = device.index();
  } catch (const Unavailable& e) {
    facts.device_error = e.what();
  }
}

void Preflight::resolve_master() {
  const std::string& name = launch_.master_addr;
  if (name.empty() || launch_.world_size == 1) return;
  Resolved master = resolve_name(name, limit_ / 2);
  if (master.addresses.empty()) {
    spdlog::warn(
        "selfcheck: master '{}' is not known yet ({}); asking for {} s", name,
        master.error, limit_.count() / 2000.0);
    const auto used =
        std::chrono::duration_cast<milliseconds>(Clock::now() - begin_);
    if (used < limit_ / 2) {
      master = resolve_name(name, limit_ / 2 - used, /*patient=*/true);
    }
  }
  master_ = master.addresses;
  if (master_.empty()) {
    throw Alone{finding(
        "resolve", fmt::format("MASTER_ADDR '{}': {}", name, master.error),
        "a name that this host's resolver knows",
        fmt::format("correct MASTER_ADDR, or DNS and /etc/hosts of {}",
                    launch_.host))};
  }
}

void Preflight::look_at_myself() {
  stage("resolve", 0.75);
  choose_my_device();
  RankFacts& facts = mine().facts;
  facts.machine = read_host_facts();
  facts.machine.versions.merge(library_versions());
  facts.local_rank = launch_.local_rank;
  facts.local_world_size = launch_.local_world_size;
  facts.node_rank = launch_.node_rank;
  facts.world_size = launch_.world_size;
  facts.threads = at::get_num_threads();
  facts.own_name_addresses = resolve_name(launch_.host, limit_ / 4).addresses;
  resolve_master();
  stage("bind", 0.25);
  facts.address = choose_own_address(launch_, options_.distributed.interface,
                                     master_, facts.machine.links);
  try {
    echo_ = std::make_unique<EchoServer>(facts.address);
    facts.port = echo_->port();
    facts.token = echo_->token();
  } catch (const std::runtime_error& e) {
    facts.own.push_back(finding("bind", e.what(), "a free port",
                                "check limits and the address that "
                                "--interface gives"));
  }
}

// Who and where this rank is, in fewer bytes than any network's packet: where
// packets of full size are lost, it arrives all the same.
std::string Preflight::greeting() {
  const RankFacts& facts = mine().facts;
  const HostFacts& machine = facts.machine;
  return nlohmann::json{
      machine.host,    machine.boot_id,  machine.pid_space,
      machine.pid,     facts.local_rank, facts.local_world_size,
      facts.node_rank, facts.world_size, facts.address,
      facts.port,      facts.token}
      .dump();
}

void Preflight::read_greeting(const std::string& text, RankFacts& facts) {
  const nlohmann::json said = nlohmann::json::parse(text);
  HostFacts& machine = facts.machine;
  said.at(0).get_to(machine.host), said.at(1).get_to(machine.boot_id);
  said.at(2).get_to(machine.pid_space), said.at(3).get_to(machine.pid);
  said.at(4).get_to(facts.local_rank),
      said.at(5).get_to(facts.local_world_size);
  said.at(6).get_to(facts.node_rank), said.at(7).get_to(facts.world_size);
  said.at(8).get_to(facts.address), said.at(9).get_to(facts.port);
  said.at(10).get_to(facts.token);
}

// Rank 0 closes the list at three quarters of the time, so that ranks whose
// own clock started a little earlier still hear who is on it.
void Preflight::arrive() {
  stage("arrive", 1);
  try {
    const auto used =
        std::chrono::duration_cast<milliseconds>(Clock::now() - begin_);
    board_ = std::make_unique<Board>(
        launch_, std::max(milliseconds(1000), limit_ - used));
    board_->post("hello", greeting());
  } catch (const std::runtime_error& e) {
    throw Alone{finding(
        is_rank0() ? "bind" : "arrive", e.what(),
        is_rank0() ? "to serve the ranks' store"
                   : fmt::format("rank 0's store at {}:{}", launch_.master_addr,
                                 launch_.master_port),
        is_rank0() ? "choose another MASTER_PORT, or end what uses it"
                   : "is rank 0 started? do firewalls let its port through? "
                     "is MASTER_ADDR the host of rank 0?")};
  }
  mine().arrived = true;
  if (is_rank0()) {
    std::vector<int> all;
    for (int r = 0; r < launch_.world_size; ++r) all.push_back(r);
    const auto said = board_->collect("hello", begin_ + limit_ * 3 / 4, all);
    nlohmann::json roster = {{"world_size", launch_.world_size},
                             {"peers", nlohmann::json::array()}};
    for (const int r : all) {
      if (!said[r]) continue;
      RankReport& rank = result_.ranks[r];
      rank.arrived = true;
      read_greeting(*said[r], rank.facts);
      roster["peers"].push_back(
          {r, rank.facts.address, rank.facts.port, rank.facts.token});
    }
    board_->post("roster", roster.dump());
    return;
  }
  const auto text = board_->read("roster", 0, in(1));
  if (!text) rank0_is_silent("arrive");
  const nlohmann::json roster = nlohmann::json::parse(*text);
  for (const auto& peer : roster["peers"]) {
    const int r = peer[0];
    if (r >= launch_.world_size) continue;
    RankReport& rank = result_.ranks[r];
    rank.arrived = true;
    if (r == launch_.rank) continue;
    rank.facts.address = peer[1], rank.facts.port = peer[2];
    rank.facts.token = peer[3];
  }
  for (const auto& peer : roster["peers"]) {
    if (peer[0] == launch_.rank) return;
  }
  throw Alone{finding(
      "arrive",
      fmt::format("not on rank 0's list: it counts {} ranks, this one {}; or "
                  "it had closed the list",
                  roster["world_size"].get<int>(), launch_.world_size),
      "to arrive in time at a launch of the same size",
      "start all ranks together, with one WORLD_SIZE")};
}

std::vector<int> Preflight::present() const {
  std::vector<int> ranks;
  for (int r = 0; r < launch_.world_size; ++r) {
    const RankReport& rank = result_.ranks[r];
    if (rank.arrived && rank.silent.empty()) ranks.push_back(r);
  }
  return ranks;
}

void Preflight::mark_silent(int r, const char* check) {
  RankReport& rank = result_.ranks[r];
  rank.silent = check;
  const HostFacts& theirs = rank.facts.machine;
  const HostFacts& own = mine().facts.machine;
  if (theirs.boot_id != own.boot_id || theirs.pid_space != own.pid_space) {
    return;  // its number means another process here, or none
  }
  const char state = process_state(theirs.pid);
  rank.state = state == 'T'   ? "is stopped (SIGSTOP, or a debugger)"
               : state == 't' ? "is held by a debugger"
               : state == 'D' ? "waits for a disk or a driver"
               : state == 0 || state == 'Z' ? "has ended"
                                            : "is alive";
}

void Preflight::ping() {
  stage("ping", 1);
  std::vector<Peer> peers;
  for (int step = 1; step < launch_.world_size; ++step) {
    // Each starts with its right neighbour: at any moment every rank is asked
    // by about one other.
    const int r = (launch_.rank + step) % launch_.world_size;
    const RankFacts& facts = result_.ranks[r].facts;
    if (!result_.ranks[r].arrived || facts.port == 0) continue;
    peers.push_back({r, facts.address, facts.port, facts.token});
  }
  PingOptions options;
  options.limit = std::min(milliseconds(2000), limit_ / 4);
  options.pings = static_cast<int>(options_.pings);
  options.bulk_bytes = static_cast<int>(options_.bulk_kib * 1024);
  mine().pings = ping_peers(peers, options);
  mine().reported = true;
  const nlohmann::json report = {{"facts", mine().facts},
                                 {"pings", mine().pings}};
  board_->post("report", report.dump());
  if (!is_rank0()) return;
  const auto said = board_->collect("report", in(0.75), present());
  for (const int r : present()) {
    if (!said[r]) {
      mark_silent(r, "ping");
      continue;
    }
    const nlohmann::json theirs = nlohmann::json::parse(*said[r]);
    RankReport& rank = result_.ranks[r];
    rank.reported = true;
    rank.facts = theirs["facts"].get<RankFacts>();
    rank.pings = theirs["pings"].get<std::vector<PeerPing>>();
  }
}

// Why a group cannot or should not be formed; empty: nothing is in the way.
std::string Preflight::obstacle() const {
  for (int r = 0; r < launch_.world_size; ++r) {
    const RankReport& rank = result_.ranks[r];
    const auto because = [r](const char* what) {
      return fmt::format("rank {} {}", r, what);
    };
    if (!rank.arrived) return because("is missing");
    if (!rank.silent.empty()) return because("fell silent");
    if (rank.facts.port == 0) return because("has no port");
    if (rank.facts.device.empty()) return because("has no device");
    if (rank.facts.world_size != launch_.world_size) {
      return because("counts the ranks otherwise");
    }
    for (const PeerPing& ping : rank.pings) {
      if (!ping.error.empty()) return because("does not reach all others");
    }
  }
  return "";
}

void Preflight::form_group() {
  stage("agreement", 1);
  if (is_rank0()) {
    result_.not_run = obstacle();
    board_->post("obstacle", result_.not_run);
  } else {
    const auto said = board_->read("obstacle", 0, in(1));
    if (!said) rank0_is_silent("ping");
    result_.not_run = *said;
  }
  if (!result_.not_run.empty()) return;
  stage("collectives", 2.25);
  status_.reset();  // the group's own observer writes from here on
  GroupReport& report = mine().group;
  mine().grouped = true;
  try {
    ProcessGroup group =
        ProcessGroup::connect(second_launch(launch_, *board_, in(1)),
                              options_.distributed, {}, "ch01_selfcheck");
    set_deterministic_threads();
    report = probe_group(group, options_.probe);
    if (!report.error.empty()) throw std::runtime_error(report.error);
    group.shutdown();
  } catch (const std::exception& e) {
    report.error = e.what();
  }
  board_->post("group", nlohmann::json(report).dump());
  if (!is_rank0()) return;
  // After an error all others have waited as long as we have.
  const auto deadline =
      report.error.empty() ? in(0.75) : Clock::now() + milliseconds(3000);
  const auto said = board_->collect("group", deadline, present());
  for (const int r : present()) {
    if (!said[r]) {
      mark_silent(r, "collectives");
      continue;
    }
    result_.ranks[r].grouped = true;
    result_.ranks[r].group = nlohmann::json::parse(*said[r]).get<GroupReport>();
  }
}

void Preflight::finish(
    const std::function<void(const SelfcheckResult&)>& tell) {
  stage("report", 1);
  if (is_rank0()) {
    result_.findings = judge(result_.ranks, options_.limits);
    tell(result_);
    board_->post("findings", nlohmann::json(result_.findings).dump());
  } else {
    const auto said = board_->read("findings", 0, in(1));
    if (!said) rank0_is_silent("collectives");
    for (const auto& one : nlohmann::json::parse(*said)) {
      const auto finding = one.get<Finding>();
      for (const int r : finding.ranks) {
        if (r == launch_.rank) result_.findings.push_back(finding);
      }
    }
  }
  board_->leave(present());
  watchdog_.done();
}

// A launcher ends everybody when one rank has failed. Whoever is alone stays
// until rank 0 has had its time to tell what the others know.
void Preflight::linger() const {
  if (!launch_.supervised || launch_.world_size == 1) return;
  std::this_thread::sleep_until(is_rank0() ? Clock::now() + milliseconds(1000)
                                           : begin_ + limit_);
}

}  // namespace

SelfcheckResult run_selfcheck(
    const LaunchContext& launch, const SelfcheckOptions& options,
    const std::function<void(const SelfcheckResult&)>& tell) {
  return Preflight(launch, options).run(tell);
}

}  // namespace dai::intro
