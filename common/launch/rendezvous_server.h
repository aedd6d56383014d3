// SPDX-License-Identifier: Apache-2.0
#pragma once

// The meeting place of a job's nodes. It runs inside the agent (the dai_launch
// process) of the node that hosts the endpoint; with one node that is the only
// agent, on a loopback port of its own, so there is one code path.
//
// The wire: JSON objects, one a line, over one TCP connection per agent.
//
//   agent -> server
//     join      protocol, run_id, min_nodes, max_nodes, host, nproc, node_rank
//     master    attempt, addr, port      answer of group rank 0 to need_master
//     done      attempt                  all its ranks exited with 0
//     failed    attempt, failure         its first rank to end badly
//     ranks     attempt, lines           after a failure: what each rank did
//     stopped   attempt, code            answer to stop: no rank is left
//     leave     reason                   the agent was told to end
//     heartbeat
//   server -> agent
//     joined                             wait for the others
//     refused   reason                   other job, other shape, rank taken
//     need_master  attempt               bind the port of rank 0's store
//     start     attempt, world_size, rank_offset, group_rank,
//               group_world_size, master_addr, master_port
//     stop      attempt, reason or failure
//     ranks     attempt, lines           of another node
//     finish    code, reason             the job is over (reason may be empty)
//     heartbeat
//
// A job is a sequence of attempts:
//
//   gathering --MIN there and last call over, or MAX there--> electing
//   electing  --group rank 0 names the store's address-->     running
//   running   --all done--> finished
//   running   --a rank failed, a node lost or joined--> stopping
//   stopping  --no rank left--> gathering, or finished when that was the last
//
// Nodes are ordered by --node-rank, then by arrival; node k's ranks follow
// those of nodes 0..k-1, whose counts may differ. A node that arrives while a
// group smaller than MAX runs makes the group restart with it, as in torchrun;
// that is free, while failed ranks and lost nodes use up --max-restarts.
// Limits: the server is lost with its node. Whoever reaches the port and knows
// --rdzv-id can join, so the port belongs on a trusted network.

#include <list>
#include <memory>
#include <string>
#include <vector>

#include "common/launch/event_loop.h"
#include "common/launch/failure.h"
#include "common/launch/line_socket.h"
#include "common/launch/options.h"

namespace dai::launch {

inline constexpr int kProtocolVersion = 1;

class RendezvousServer {
 public:
  // Uses of `options`: rdzv_id, min/max_nodes, max_restarts and the times.
  RendezvousServer(EventLoop& loop, UniqueFd listener,
                   const LaunchOptions& options);
  ~RendezvousServer();

  // Ends the job for everybody because the hosting agent was told to end.
  void abort(const std::string& reason);

  // The job is over and every agent has heard of it (or 2 s have passed).
  bool drained() const;

 private:
  using Json = LineSocket::Json;
  enum class Phase { kGathering, kElecting, kRunning, kStopping, kFinished };

  struct Node {
    std::unique_ptr<LineSocket> socket;
    bool joined = false;
    bool refused = false;
    EventLoop::Clock::time_point last_heard;
    std::string host;
    int nproc = 0;
    int node_rank = -1;
    int rank_offset = 0;
    // Of the current attempt:
    bool in_group = false;
    bool ended = false;  // none of its ranks is left
  };
  using Nodes = std::list<Node>;  // in the order of arrival; stable addresses

  void on_accept();
  void on_message(Node& node, const Json& message);
  void on_lost(Node& node, const std::string& why);
  void on_join(Node& node, const Json& message);
  std::string refusal(const Json& join) const;
  void refuse(Node& node, const std::string& reason);
  void discard(Node& node);
  void sweep();
  void beat();

  void gather();
  void close_when_complete();
  void join_timed_out();
  void elect();
  void start(const std::string& master_addr, int master_port);
  void stop(Json why, int code, bool counts, bool may_restart);
  void restart_or_finish_once_ended();
  void finish(int code, const std::string& reason);

  std::vector<Node*> joined();
  bool group_ended() const;
  std::string names_of(const std::vector<Node*>& nodes) const;
  void tell_group(const Json& message);

  EventLoop& loop_;
  UniqueFd listener_;
  const LaunchOptions options_;
  Nodes nodes_;
  Phase phase_ = Phase::kGathering;
  int attempt_ = 0;
  int restarts_ = 0;  // used up by failures
  std::vector<Node*> group_;
  int code_ = 0;              // of this attempt so far
  bool may_restart_ = false;  // decided by stop()
  EventLoop::TimerId join_timer_ = 0;
  EventLoop::TimerId last_call_timer_ = 0;
  EventLoop::TimerId stop_timer_ = 0;
  EventLoop::TimerId beat_timer_ = 0;
  bool drain_over_ = false;
};

}  // namespace dai::launch
