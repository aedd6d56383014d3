// SPDX-License-Identifier: Apache-2.0
// What a rank does by itself, and how the ranks meet.
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <stdexcept>

#include "ch01_intro/selfcheck/preflight.h"
#include "common/errors.h"
#include "common/log.h"
#include "common/torch/device.h"

namespace dai::intro {

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

std::string Preflight::sealed(const nlohmann::json& message) const {
  return nlohmann::json{kPreflightFormat, launch_.host, message}.dump();
}

std::optional<nlohmann::json> Preflight::opened(const std::string& text,
                                                RankReport& from) {
  const auto said = nlohmann::json::parse(text, nullptr, false);
  const bool whole = said.is_array() && said.size() == 3;
  if (whole && said[0] == kPreflightFormat) return said[2];
  const bool named = whole && said[0].is_string() && said[1].is_string();
  from.foreign = named ? said[0].get<std::string>() : "no known format";
  from.facts.machine.host = named ? said[1].get<std::string>() : "unknown";
  return {};
}

nlohmann::json Preflight::opened_from_rank0(const std::string& text) {
  if (auto message = opened(text, result_.ranks[0])) return *message;
  throw Alone{finding("versions",
                      fmt::format("speaks {}, rank 0 {}", kPreflightFormat,
                                  result_.ranks[0].foreign),
                      "one build on all ranks", kCopyOneBuild)};
}

// Who and where this rank is, in fewer bytes than any network's packet: where
// packets of full size are lost, it arrives all the same.
std::string Preflight::greeting() {
  const RankFacts& facts = mine().facts;
  const HostFacts& machine = facts.machine;
  return sealed({machine.host, machine.boot_id, machine.pid_space, machine.pid,
                 facts.local_rank, facts.local_world_size, facts.node_rank,
                 facts.world_size, facts.address, facts.port, facts.token});
}

void Preflight::read_greeting(const nlohmann::json& said, RankFacts& facts) {
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
      const auto greeting = opened(*said[r], rank);
      if (!greeting) continue;
      read_greeting(*greeting, rank.facts);
      roster["peers"].push_back(
          {r, rank.facts.address, rank.facts.port, rank.facts.token});
    }
    board_->post("roster", sealed(roster));
    return;
  }
  const auto text = board_->read("roster", 0, in(1));
  if (!text) rank0_is_silent("arrive");
  const nlohmann::json roster = opened_from_rank0(*text);
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

}  // namespace dai::intro
