// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/selfcheck/board.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>

#include "common/torch/c10d_compat.h"
#include "common/torch/rendezvous.h"

namespace dai::intro {
namespace {

using std::chrono::milliseconds;

milliseconds left_until(Deadline deadline) {
  return std::max(milliseconds(1),
                  std::chrono::duration_cast<milliseconds>(
                      deadline - std::chrono::steady_clock::now()));
}

[[noreturn]] void store_is_gone() {
  throw std::runtime_error(
      "the connection to rank 0's store broke: did rank 0 die?");
}

// A socket that listens at a free port of every address of this host.
int listen_anywhere(int& port) {
  for (const int family : {AF_INET6, AF_INET}) {
    const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    const int both = 0;  // IPv4 peers too
    if (family == AF_INET6) {
      setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &both, sizeof both);
    }
    sockaddr_storage any{};
    any.ss_family = static_cast<sa_family_t>(family);
    socklen_t length =
        family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
    auto* address = reinterpret_cast<sockaddr*>(&any);
    if (bind(fd, address, length) == 0 && listen(fd, 1024) == 0 &&
        getsockname(fd, address, &length) == 0) {
      port = ntohs(reinterpret_cast<sockaddr_in*>(&any)->sin_port);
      return fd;
    }
    close(fd);
  }
  throw std::runtime_error("rank 0 cannot listen at any port");
}

}  // namespace

struct Board::State {
  LaunchContext launch;
  StorePtr store;
  std::string key(const std::string& topic, int rank) const {
    return fmt::format("{}/{}", topic, rank);
  }
};

Board::Board(const LaunchContext& launch, milliseconds limit)
    : state_(std::make_unique<State>()) {
  state_->launch = launch;
  state_->store = c10::make_intrusive<::c10d::PrefixStore>(
      "selfcheck", open_store(launch, limit));
  std::int64_t same = 1;
  try {
    same = state_->store->add(state_->key("here", launch.rank), 1);
  } catch (const c10::Error&) {
    store_is_gone();
  }
  if (same > 1) {
    throw std::runtime_error(
        fmt::format("another process is rank {} already", launch.rank));
  }
}

Board::~Board() = default;

void Board::post(const std::string& topic, const std::string& text) {
  try {
    state_->store->set(state_->key(topic, state_->launch.rank), text);
  } catch (const c10::Error&) {
    store_is_gone();
  }
}

std::optional<std::string> Board::read(const std::string& topic, int from,
                                       Deadline deadline) {
  const std::string key = state_->key(topic, from);
  try {
    state_->store->wait({key}, left_until(deadline));
    return state_->store->get_to_str(key);
  } catch (const c10::DistStoreError&) {
    return std::nullopt;
  } catch (const c10::Error&) {
    store_is_gone();
  }
}

std::vector<std::optional<std::string>> Board::collect(
    const std::string& topic, Deadline deadline,
    const std::vector<int>& ranks) {
  std::vector<std::optional<std::string>> said(state_->launch.world_size);
  for (const int rank : ranks) said[rank] = read(topic, rank, deadline);
  return said;
}

void Board::leave(const std::vector<int>& ranks) {
  try {
    post("left", "yes");
    if (state_->launch.rank != 0) return;
    const auto deadline = std::chrono::steady_clock::now() + milliseconds(2000);
    collect("left", deadline, ranks);
  } catch (const std::exception&) {
    // Somebody is gone already: nothing is left to ask.
  }
}

LaunchContext second_launch(const LaunchContext& launch, Board& board,
                            Deadline deadline) {
  // Under an agent the store outlives us, and a second client is no matter; a
  // single rank needs none.
  if (launch.agent_store || launch.world_size == 1) return launch;
  LaunchContext second = launch;
  second.meeting_file.clear();
  second.master_listen_fd.reset();
  if (launch.master_addr.empty()) second.master_addr = "127.0.0.1";
  if (launch.rank == 0) {
    second.master_listen_fd = listen_anywhere(second.master_port);
    board.post("second port", std::to_string(second.master_port));
    if (!launch.meeting_file.empty()) {
      std::error_code ignored;  // all have met: nobody needs the file
      std::filesystem::remove(launch.meeting_file, ignored);
    }
    return second;
  }
  const auto port = board.read("second port", 0, deadline);
  if (!port) throw std::runtime_error("rank 0 named no port for the group");
  second.master_port = std::stoi(*port);
  return second;
}

}  // namespace dai::intro
