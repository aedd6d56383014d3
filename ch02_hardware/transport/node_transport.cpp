// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/transport/node_transport.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <stdexcept>
#include <utility>

#include "ch02_hardware/transport/shm_channels.h"
#include "common/errors.h"

namespace dai::hardware {
namespace {

using std::chrono::milliseconds;

// Memory to the ranks of this node, TCP to the others.
class NodeChannels final : public Channels {
 public:
  // `local` by rank: its number in this node's segment, or -1.
  NodeChannels(std::unique_ptr<Channels> shm, std::unique_ptr<Channels> tcp,
               std::vector<int> local)
      : shm_(std::move(shm)), tcp_(std::move(tcp)), local_(std::move(local)) {}

  std::size_t try_send(int to, const std::byte* data,
                       std::size_t bytes) override {
    return of(to).try_send(at(to), data, bytes);
  }
  std::size_t try_receive(int from, std::byte* data,
                          std::size_t bytes) override {
    return of(from).try_receive(at(from), data, bytes);
  }
  std::span<const std::byte> peek(int from, std::size_t most) override {
    return of(from).peek(at(from), most);
  }
  void consume(int from, std::size_t bytes) override {
    of(from).consume(at(from), bytes);
  }
  void start_outgoing(int to) override { of(to).start_outgoing(at(to)); }
  void start_incoming(int from) override { of(from).start_incoming(at(from)); }
  bool post(int to, const Note& note) override {
    return of(to).post(at(to), note);
  }
  bool take(int from, Note& note) override {
    return of(from).take(at(from), note);
  }
  bool dead(int peer) override { return of(peer).dead(at(peer)); }
  bool drained(int from) override { return of(from).drained(at(from)); }
  // One thread cannot sleep on both: it naps, first on the memory's bell.
  void park(milliseconds limit) override {
    shm_->park(milliseconds(0));
    tcp_->park(std::min(limit, milliseconds(1)));
  }
  void unpark() override { shm_->unpark(); }
  void interrupt() override { tcp_->interrupt(); }
  int spins() const override { return tcp_->spins(); }

 private:
  Channels& of(int rank) { return local_[rank] >= 0 ? *shm_ : *tcp_; }
  int at(int rank) const { return local_[rank] >= 0 ? local_[rank] : rank; }

  const std::unique_ptr<Channels> shm_, tcp_;
  const std::vector<int> local_;
};

// The ranks of this rank's node, and a bootstrap among them: every rank calls
// the common one, and looks at its own node's answers only.
struct MyNode {
  explicit MyNode(const NodeOptions& options) : local(options.size, -1) {
    for (int rank = 0; rank < options.size; ++rank) {
      if (options.nodes[rank] != options.nodes[options.rank]) continue;
      local[rank] = static_cast<int>(ranks.size());
      ranks.push_back(rank);
    }
  }
  Bootstrap bootstrap(const Bootstrap& of_all) const {
    return [this, &of_all](const std::string& mine) {
      const auto all = of_all(mine);
      std::vector<std::string> here;
      for (const int rank : ranks) here.push_back(all[rank]);
      return here;
    };
  }
  std::vector<int> local;
  std::vector<int> ranks;
};

// Null on all ranks where one of them cannot; `why` then says so.
std::shared_ptr<SharedSegment> share_memory(const NodeOptions& options,
                                            const MyNode& node,
                                            const Bootstrap& bootstrap,
                                            std::string& why) {
  std::shared_ptr<SharedSegment> segment;
  std::string mine;
  try {
    segment = SharedSegment::of_processes(node.local[options.rank],
                                          static_cast<int>(node.ranks.size()),
                                          node.bootstrap(bootstrap));
  } catch (const std::exception& error) {
    mine = error.what();
  }
  for (const std::string& problem : bootstrap(mine)) {
    if (problem.empty()) continue;
    why = problem;
    return nullptr;
  }
  return segment;
}

}  // namespace

Medium medium_from_name(const std::string& name) {
  if (name.empty() || name == "auto") return Medium::kAuto;
  if (name == "shm") return Medium::kShm;
  if (name == "tcp") return Medium::kTcp;
  throw UsageError(
      fmt::format("medium {}: accepted are auto, shm and tcp", name));
}

std::unique_ptr<Channels> connect_node_channels(const NodeOptions& options,
                                                const Bootstrap& bootstrap,
                                                std::string* description) {
  const std::set<int> nodes(options.nodes.begin(), options.nodes.end());
  std::shared_ptr<SharedSegment> segment;
  std::string why;
  const MyNode node(options);
  if (options.medium != Medium::kTcp) {
    segment = share_memory(options, node, bootstrap, why);
    if (!segment && options.medium == Medium::kShm) {
      throw std::runtime_error(why);
    }
  }
  const bool across = !segment || nodes.size() > 1;
  std::unique_ptr<Channels> shm, tcp;
  if (segment) {
    shm = std::make_unique<ShmChannels>(node.local[options.rank], segment);
  }
  if (across) tcp = connect_tcp_channels(options, bootstrap);
  if (description) {
    *description =
        !segment ? "tcp" + (why.empty() ? "" : fmt::format(" ({})", why))
        : across ? fmt::format("shm in {} nodes, tcp across", nodes.size())
                 : "shm";
  }
  if (!segment) return tcp;
  if (!across) return shm;
  return std::make_unique<NodeChannels>(std::move(shm), std::move(tcp),
                                        node.local);
}

Connection connect_nodes(const NodeOptions& given, const Bootstrap& bootstrap) {
  NodeOptions options = given;
  options.ranks_on_node = static_cast<int>(std::count(
      options.nodes.begin(), options.nodes.end(), options.nodes[options.rank]));
  const std::set<int> nodes(options.nodes.begin(), options.nodes.end());
  if (nodes.size() > 1 && options.medium == Medium::kShm) {
    throw std::runtime_error(
        fmt::format("ranks of {} nodes share no memory", nodes.size()));
  }
  Connection connection;
  if (nodes.size() == 1 && options.medium != Medium::kTcp) {
    std::string why;
    const MyNode node(options);
    if (auto segment = share_memory(options, node, bootstrap, why)) {
      connection.transport = transport_on(
          segment, options.rank, {options, options.cross_memory_attach});
      connection.description = "shm";
      return connection;
    }
    if (options.medium == Medium::kShm) throw std::runtime_error(why);
    connection.description = fmt::format("tcp ({})", why);
    connection.transport = connect_tcp(options, bootstrap, options.nodes);
    return connection;
  }
  auto channels =
      connect_node_channels(options, bootstrap, &connection.description);
  const bool tcp_only = connection.description.starts_with("tcp");
  connection.transport =
      transport_over(std::move(channels), options.rank, options.size,
                     tcp_only ? "tcp" : "shm+tcp", options.nodes, options);
  return connection;
}

}  // namespace dai::hardware
