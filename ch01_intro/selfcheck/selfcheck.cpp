// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/selfcheck/selfcheck.h"

#include <fmt/format.h>

#include <stdexcept>
#include <thread>

#include "ch01_intro/selfcheck/preflight.h"
#include "common/log.h"
#include "common/torch/device.h"

namespace dai::intro {

SelfcheckResult Preflight::run(
    const std::function<void(const SelfcheckResult&)>& tell) {
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

void Preflight::stage(const char* name, double parts) {
  if (status_) status_->set(fmt::format("selfcheck: {}", name));
  spdlog::info("selfcheck: {}", name);
  watchdog_.expect(name, std::chrono::duration_cast<milliseconds>(
                             limit_ * parts + std::chrono::seconds(5)));
}

void Preflight::rank0_is_silent(const char* check) const {
  throw Alone{finding(
      check, "rank 0 said nothing more",
      fmt::format("its answer within {} s", options_.distributed.timeout_s),
      "look at the process of rank 0: stopped, or dead?")};
}

std::vector<int> Preflight::present() const {
  std::vector<int> ranks;
  for (int r = 0; r < launch_.world_size; ++r) {
    const RankReport& rank = result_.ranks[r];
    if (rank.arrived && rank.silent.empty() && rank.foreign.empty()) {
      ranks.push_back(r);
    }
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
  board_->post("report", sealed(report));
  if (!is_rank0()) return;
  const auto said = board_->collect("report", in(0.75), present());
  for (const int r : present()) {
    if (!said[r]) {
      mark_silent(r, "ping");
      continue;
    }
    RankReport& rank = result_.ranks[r];
    const auto theirs = opened(*said[r], rank);
    if (!theirs) continue;
    rank.reported = true;
    rank.facts = theirs->at("facts").get<RankFacts>();
    rank.pings = theirs->at("pings").get<std::vector<PeerPing>>();
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
    if (!rank.foreign.empty()) return because("is of another build");
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
    board_->post("obstacle", sealed(result_.not_run));
  } else {
    const auto said = board_->read("obstacle", 0, in(1));
    if (!said) rank0_is_silent("ping");
    result_.not_run = opened_from_rank0(*said).get<std::string>();
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
  board_->post("group", sealed(report));
  if (!is_rank0()) return;
  // After an error all others have waited as long as we have; what is left is
  // their word of it.
  const auto deadline =
      report.error.empty()
          ? in(0.75)
          : Clock::now() + std::max(milliseconds(3000), limit_ / 3);
  const auto said = board_->collect("group", deadline, present());
  for (const int r : present()) {
    if (!said[r]) {
      mark_silent(r, "collectives");
      continue;
    }
    const auto theirs = opened(*said[r], result_.ranks[r]);
    if (!theirs) continue;
    result_.ranks[r].grouped = true;
    result_.ranks[r].group = theirs->get<GroupReport>();
  }
}

void Preflight::finish(
    const std::function<void(const SelfcheckResult&)>& tell) {
  stage("report", 1);
  if (is_rank0()) {
    result_.findings = judge(result_.ranks, options_.limits);
    tell(result_);
    board_->post("findings", sealed(result_.findings));
  } else {
    const auto said = board_->read("findings", 0, in(1));
    if (!said) rank0_is_silent("collectives");
    for (const auto& one : opened_from_rank0(*said)) {
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

SelfcheckResult run_selfcheck(
    const LaunchContext& launch, const SelfcheckOptions& options,
    const std::function<void(const SelfcheckResult&)>& tell) {
  return Preflight(launch, options).run(tell);
}

}  // namespace dai::intro
