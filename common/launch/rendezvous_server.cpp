// SPDX-License-Identifier: Apache-2.0
#include "common/launch/rendezvous_server.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/socket.h>

#include <algorithm>
#include <climits>
#include <utility>

#include "common/errors.h"

namespace dai::launch {
namespace {

using Seconds = EventLoop::Duration;

// Agents need up to 5 s to end their ranks; one that takes longer is lost.
constexpr Seconds kStopLimit{10};
constexpr Seconds kDrainLimit{2};
constexpr std::size_t kMaxConnections = 4096;

// "rank 3", "ranks 4-7"
std::string ranks_of(int first, int count) {
  return count == 1 ? fmt::format("rank {}", first)
                    : fmt::format("ranks {}-{}", first, first + count - 1);
}

}  // namespace

RendezvousServer::RendezvousServer(EventLoop& loop, UniqueFd listener,
                                   const LaunchOptions& options)
    : loop_(loop), listener_(std::move(listener)), options_(options) {
  loop_.watch(listener_.get(), POLLIN, [this](short) { on_accept(); });
  beat();
  gather();
}

RendezvousServer::~RendezvousServer() {
  if (listener_) loop_.unwatch(listener_.get());
  for (const auto timer :
       {join_timer_, last_call_timer_, stop_timer_, beat_timer_}) {
    loop_.cancel(timer);
  }
}

// --- Connections -----------------------------------------------------------

void RendezvousServer::on_accept() {
  UniqueFd fd(
      accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd || nodes_.size() >= kMaxConnections) return;
  Node& node = nodes_.emplace_back();
  node.last_heard = EventLoop::Clock::now();
  node.socket = std::make_unique<LineSocket>(
      loop_, std::move(fd),
      [this, &node](const Json& message) { on_message(node, message); },
      [this, &node](const std::string& why) { on_lost(node, why); });
}

void RendezvousServer::on_message(Node& node, const Json& message) {
  node.last_heard = EventLoop::Clock::now();
  const std::string type = message.at("type");
  if (node.refused || type == "heartbeat") return;
  if (!node.joined) {
    return type == "join" ? on_join(node, message)
                          : refuse(node, "the first message must be join");
  }
  if (type == "leave") {
    const std::string reason = message.at("reason");
    node.socket->close();
    return on_lost(node, reason);
  }
  // What is left speaks of one attempt; an earlier one is of no interest.
  if (message.at("attempt") != attempt_ || !node.in_group) return;
  if (type == "master" && phase_ == Phase::kElecting &&
      &node == group_.front()) {
    start(message.at("addr"), message.at("port"));
  } else if (type == "done" && phase_ == Phase::kRunning) {
    node.ended = true;
    if (group_ended()) finish(kExitOk, "");
  } else if (type == "failed") {
    const auto failure = message.at("failure").get<Failure>();
    if (phase_ == Phase::kRunning) {
      // A refusal (wrong usage, cannot run here) would only be repeated.
      stop({{"failure", failure}}, failure.code(), /*counts=*/true,
           /*may_restart=*/!failure.is_refusal());
    } else {
      code_ = worse_code(code_, failure.code());
    }
  } else if (type == "ranks" && phase_ == Phase::kStopping) {
    for (Node* other : group_) {
      if (other != &node) other->socket->send(message);
    }
  } else if (type == "stopped" && phase_ == Phase::kStopping) {
    node.ended = true;
    code_ = worse_code(code_, message.at("code"));
    restart_or_finish_once_ended();
  }
}

void RendezvousServer::on_lost(Node& node, const std::string& why) {
  const bool mattered = node.in_group && !node.ended;
  const bool was_joined = node.joined;
  discard(node);
  if (!was_joined) return;
  switch (phase_) {
    case Phase::kGathering:
      return close_when_complete();
    case Phase::kElecting:
    case Phase::kRunning:
      if (!mattered) return;  // its ranks had all succeeded before
      return stop({{"reason",
                    fmt::format("node {} ({}) was lost: {}", node.host,
                                ranks_of(node.rank_offset, node.nproc), why)}},
                  kExitFailed, /*counts=*/true, /*may_restart=*/true);
    case Phase::kStopping:
      return restart_or_finish_once_ended();
    case Phase::kFinished:
      return;
  }
}

void RendezvousServer::on_join(Node& node, const Json& message) {
  if (const std::string reason = refusal(message); !reason.empty()) {
    return refuse(node, reason);
  }
  message.at("host").get_to(node.host);
  message.at("nproc").get_to(node.nproc);
  message.at("node_rank").get_to(node.node_rank);
  node.joined = true;
  node.socket->send({{"type", "joined"}});
  if (phase_ == Phase::kGathering) return close_when_complete();
  const bool nobody_done = std::none_of(group_.begin(), group_.end(),
                                        [](const Node* n) { return n->ended; });
  if (phase_ == Phase::kRunning && nobody_done &&
      static_cast<int>(group_.size()) < options_.max_nodes) {
    stop({{"reason", fmt::format("node {} has joined", node.host)}}, kExitOk,
         /*counts=*/false, /*may_restart=*/true);
  }
}

// Why this node may not take part; empty when it may.
std::string RendezvousServer::refusal(const Json& join) const {
  const int protocol = join.at("protocol");
  const std::string run_id = join.at("run_id");
  const int min_nodes = join.at("min_nodes");
  const int max_nodes = join.at("max_nodes");
  const int node_rank = join.at("node_rank");
  const int nproc = join.at("nproc");
  if (protocol != kProtocolVersion) {
    return fmt::format("protocol version {} here, {} there", kProtocolVersion,
                       protocol);
  }
  if (run_id != options_.rdzv_id) {
    return fmt::format("--rdzv-id is \"{}\" here, \"{}\" there",
                       options_.rdzv_id, run_id);
  }
  if (min_nodes != options_.min_nodes || max_nodes != options_.max_nodes) {
    return fmt::format("--nnodes is {}:{} here, {}:{} there",
                       options_.min_nodes, options_.max_nodes, min_nodes,
                       max_nodes);
  }
  if (nproc < 1 || nproc > 4096) return "ranks per node out of range";
  int present = 0;
  for (const Node& other : nodes_) {
    if (!other.joined || !other.socket->is_open()) continue;
    ++present;
    if (node_rank >= 0 && other.node_rank == node_rank) {
      return fmt::format("--node-rank {} is taken by {}", node_rank,
                         other.host);
    }
  }
  // In an elastic job a surplus node waits for a place instead.
  if (options_.min_nodes == options_.max_nodes &&
      present >= options_.max_nodes) {
    return fmt::format("all {} nodes are there already", present);
  }
  return "";
}

void RendezvousServer::refuse(Node& node, const std::string& reason) {
  node.refused = true;
  node.socket->send({{"type", "refused"}, {"reason", reason}});
  // The peer closes: closing first could overtake the message with a reset.
  node.socket->finish_sending();
}

// Nodes are only marked here: we may be inside a callback of its socket.
void RendezvousServer::discard(Node& node) {
  node.socket->close();
  node.joined = false;
  node.in_group = false;
  std::erase(group_, &node);
}

void RendezvousServer::sweep() {
  nodes_.remove_if([](const Node& n) { return !n.socket->is_open(); });
}

// Both directions: agents also end their ranks when the server falls silent.
void RendezvousServer::beat() {
  sweep();
  const auto now = EventLoop::Clock::now();
  for (Node& node : nodes_) {
    if (Seconds(now - node.last_heard).count() > options_.heartbeat_s) {
      node.socket->close();
      on_lost(node, fmt::format("silent for {} s", options_.heartbeat_s));
    } else if (node.joined) {
      node.socket->send({{"type", "heartbeat"}});
    }
  }
  beat_timer_ =
      loop_.after(Seconds(options_.heartbeat_s / 3), [this] { beat(); });
}

// --- Attempts --------------------------------------------------------------

void RendezvousServer::gather() {
  phase_ = Phase::kGathering;
  for (Node* node : group_) node->in_group = false;
  group_.clear();
  join_timer_ = loop_.after(Seconds(options_.join_timeout_s),
                            [this] { join_timed_out(); });
  close_when_complete();
}

void RendezvousServer::close_when_complete() {
  const int ready = static_cast<int>(joined().size());
  if (ready < options_.min_nodes) {
    loop_.cancel(std::exchange(last_call_timer_, 0));
  } else if (ready >= options_.max_nodes) {
    elect();
  } else if (last_call_timer_ == 0) {
    last_call_timer_ =
        loop_.after(Seconds(options_.last_call_s), [this] { elect(); });
  }
}

void RendezvousServer::join_timed_out() {
  const auto here = joined();
  if (static_cast<int>(here.size()) >= options_.min_nodes) return;
  finish(kExitFailed,
         fmt::format("{} of {} nodes joined within {} s (--join-timeout-s): {}",
                     here.size(), options_.min_nodes, options_.join_timeout_s,
                     here.empty() ? "none" : names_of(here)));
}

void RendezvousServer::elect() {
  loop_.cancel(std::exchange(join_timer_, 0));
  loop_.cancel(std::exchange(last_call_timer_, 0));
  phase_ = Phase::kElecting;
  group_ = joined();
  // Those who came last wait; then the given numbers decide the order.
  if (static_cast<int>(group_.size()) > options_.max_nodes) {
    group_.resize(static_cast<std::size_t>(options_.max_nodes));
  }
  std::stable_sort(group_.begin(), group_.end(), [](Node* a, Node* b) {
    const auto key = [](const Node* n) {
      return n->node_rank >= 0 ? n->node_rank : INT_MAX;
    };
    return key(a) < key(b);
  });
  int rank_offset = 0;
  for (Node* node : group_) {
    node->in_group = true;
    node->ended = false;
    node->rank_offset = rank_offset;
    rank_offset += node->nproc;
  }
  code_ = kExitOk;
  group_.front()->socket->send(
      {{"type", "need_master"}, {"attempt", attempt_}});
}

void RendezvousServer::start(const std::string& master_addr, int master_port) {
  phase_ = Phase::kRunning;
  int world_size = 0;
  for (const Node* node : group_) world_size += node->nproc;
  int group_rank = 0;
  for (Node* node : group_) {
    node->socket->send({{"type", "start"},
                        {"attempt", attempt_},
                        {"world_size", world_size},
                        {"rank_offset", node->rank_offset},
                        {"group_rank", group_rank++},
                        {"group_world_size", group_.size()},
                        {"master_addr", master_addr},
                        {"master_port", master_port}});
  }
}

void RendezvousServer::stop(Json why, int code, bool counts, bool may_restart) {
  phase_ = Phase::kStopping;
  code_ = worse_code(code_, code);
  may_restart_ = may_restart && (!counts || restarts_ < options_.max_restarts);
  if (may_restart_ && counts) ++restarts_;
  why["type"] = "stop";
  why["attempt"] = attempt_;
  tell_group(why);
  stop_timer_ = loop_.after(kStopLimit, [this] {
    // A copy: on_lost() takes nodes out of the group.
    for (Node* node : std::vector<Node*>(group_)) {
      if (!node->ended) on_lost(*node, "did not end its ranks");
    }
  });
  restart_or_finish_once_ended();
}

bool RendezvousServer::group_ended() const {
  return std::all_of(group_.begin(), group_.end(),
                     [](const Node* n) { return n->ended; });
}

void RendezvousServer::restart_or_finish_once_ended() {
  if (phase_ != Phase::kStopping || !group_ended()) return;
  loop_.cancel(std::exchange(stop_timer_, 0));
  if (!may_restart_) {
    const bool used_up = options_.max_restarts > 0 && code_ == kExitFailed;
    return finish(code_, used_up ? fmt::format("--max-restarts {} is used up",
                                               options_.max_restarts)
                                 : "");
  }
  ++attempt_;
  gather();
}

void RendezvousServer::abort(const std::string& reason) {
  if (phase_ != Phase::kFinished) finish(kExitFailed, reason);
}

void RendezvousServer::finish(int code, const std::string& reason) {
  phase_ = Phase::kFinished;
  for (auto* timer : {&join_timer_, &last_call_timer_, &stop_timer_}) {
    loop_.cancel(std::exchange(*timer, 0));
  }
  loop_.unwatch(listener_.get());
  listener_.reset();
  for (Node& node : nodes_) {
    if (!node.joined) {
      node.socket->close();
      continue;
    }
    node.socket->send({{"type", "finish"}, {"code", code}, {"reason", reason}});
    node.socket->finish_sending();
  }
  stop_timer_ = loop_.after(kDrainLimit, [this] { drain_over_ = true; });
}

bool RendezvousServer::drained() const {
  if (phase_ != Phase::kFinished) return false;
  return drain_over_ ||
         std::none_of(nodes_.begin(), nodes_.end(),
                      [](const Node& n) { return n.socket->is_open(); });
}

std::vector<RendezvousServer::Node*> RendezvousServer::joined() {
  std::vector<Node*> here;
  for (Node& node : nodes_) {
    if (node.joined) here.push_back(&node);
  }
  return here;
}

std::string RendezvousServer::names_of(const std::vector<Node*>& nodes) const {
  std::vector<std::string> names;
  for (const Node* node : nodes) {
    names.push_back(fmt::format("{} ({} rank{})", node->host, node->nproc,
                                node->nproc == 1 ? "" : "s"));
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

void RendezvousServer::tell_group(const Json& message) {
  for (Node* node : group_) node->socket->send(message);
}

}  // namespace dai::launch
