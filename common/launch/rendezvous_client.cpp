// SPDX-License-Identifier: Apache-2.0
#include "common/launch/rendezvous_client.h"

#include <fmt/format.h>

#include <stdexcept>
#include <system_error>
#include <utility>

#include "common/launch/rendezvous_server.h"

namespace dai::launch {
namespace {

using Seconds = EventLoop::Duration;

}  // namespace

RendezvousClient::RendezvousClient(EventLoop& loop,
                                   const LaunchOptions& options,
                                   std::string host, int port,
                                   Handlers handlers)
    : loop_(loop),
      options_(options),
      host_(std::move(host)),
      port_(port),
      handlers_(std::move(handlers)) {
  give_up_ = EventLoop::Clock::now() +
             std::chrono::duration_cast<EventLoop::Clock::duration>(
                 Seconds(options_.join_timeout_s));
  timer_ = loop_.after(Seconds(0), [this] { try_connect(); });
}

RendezvousClient::~RendezvousClient() {
  close();
}

void RendezvousClient::close() {
  loop_.cancel(std::exchange(timer_, 0));
  if (socket_) socket_->close();
}

void RendezvousClient::send(const Json& message) {
  if (socket_) socket_->send(message);
}

std::string RendezvousClient::local_address() const {
  return launch::local_address(socket_->fd());
}

// Nodes start in any order, and a pod's name may resolve only after a while,
// so every error is worth another try until the time is over.
void RendezvousClient::try_connect() {
  UniqueFd fd;
  std::string why;
  try {
    fd = connect_to(host_, port_, std::chrono::seconds(1));
  } catch (const std::system_error& error) {
    why = error_text(error.code().value());
  } catch (const std::runtime_error& error) {
    why = error.what();
  }
  if (!fd) {
    if (EventLoop::Clock::now() >= give_up_) {
      return lose(fmt::format(
          "cannot reach the rendezvous at {} within {} s "
          "(--join-timeout-s): {}",
          endpoint_name(host_, port_), options_.join_timeout_s, why));
    }
    timer_ = loop_.after(Seconds(0.2), [this] { try_connect(); });
    return;
  }
  socket_ = std::make_unique<LineSocket>(
      loop_, std::move(fd), [this](const Json& m) { on_message(m); },
      [this](const std::string& reason) {
        lose(joined_ ? fmt::format("lost the rendezvous at {}: {}",
                                   endpoint_name(host_, port_), reason)
                     : fmt::format("what answers at {} is no dai_launch "
                                   "rendezvous: {}",
                                   endpoint_name(host_, port_), reason));
      });
  last_heard_ = EventLoop::Clock::now();
  send({{"type", "join"},
        {"protocol", kProtocolVersion},
        {"run_id", options_.rdzv_id},
        {"min_nodes", options_.min_nodes},
        {"max_nodes", options_.max_nodes},
        {"host", host_name()},
        {"nproc", options_.nproc_per_node},
        {"node_rank", options_.node_rank}});
  beat();
}

void RendezvousClient::on_message(const Json& message) {
  last_heard_ = EventLoop::Clock::now();
  const std::string type = message.at("type");
  if (type == "heartbeat") return;
  if (type == "joined") {
    joined_ = true;
  } else if (type == "refused") {
    const std::string reason = message.at("reason");
    lose(fmt::format("the rendezvous at {} refused this node: {}",
                     endpoint_name(host_, port_), reason));
  } else {
    handlers_.on_message(message);
  }
}

void RendezvousClient::lose(const std::string& why) {
  close();
  handlers_.on_lost(why);
}

void RendezvousClient::beat() {
  const Seconds silent(EventLoop::Clock::now() - last_heard_);
  if (silent.count() > options_.heartbeat_s) {
    return lose(fmt::format(
        "{} at {}: silent for {} s",
        joined_ ? "lost the rendezvous" : "no dai_launch rendezvous answers",
        endpoint_name(host_, port_), options_.heartbeat_s));
  }
  send({{"type", "heartbeat"}});
  timer_ = loop_.after(Seconds(options_.heartbeat_s / 3), [this] { beat(); });
}

}  // namespace dai::launch
