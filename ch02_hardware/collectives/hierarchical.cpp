// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/collectives/hierarchical.h"

#include <algorithm>
#include <map>

#include "ch02_hardware/collectives/binomial_tree.h"
#include "ch02_hardware/collectives/ring.h"
#include "ch02_hardware/reduction/combine.h"
#include "ch02_hardware/transport/group_view.h"

namespace dai::hardware {
namespace {

struct Nodes {
  explicit Nodes(const Transport& t) {
    std::map<int, std::vector<int>> found;
    for (int rank = 0; rank < t.size(); ++rank) {
      found[t.node_of(rank)].push_back(rank);
    }
    for (auto& [node, ranks] : found) by_node.push_back(std::move(ranks));
    for (const auto& ranks : by_node) {
      if (std::find(ranks.begin(), ranks.end(), t.rank()) != ranks.end()) {
        mine = ranks;
      }
      even = even && ranks.size() == by_node.front().size();
    }
    local = static_cast<int>(std::find(mine.begin(), mine.end(), t.rank()) -
                             mine.begin());
  }
  std::vector<std::vector<int>> by_node;
  std::vector<int> mine;  // the ranks of this rank's node
  int local = 0;          // this rank's place among them
  bool even = true;       // as many ranks on each node

  // The rank at place `local` of each node.
  std::vector<int> across(int place) const {
    std::vector<int> ranks;
    for (const auto& node : by_node) ranks.push_back(node[place]);
    return ranks;
  }
};

// Sum of the elements that divide evenly among the node's ranks.
void even_all_reduce(const Operands& o, const Nodes& nodes, Transport& t) {
  GroupView node(t, nodes.mine);
  GroupView across(t, nodes.across(nodes.local));
  Operands mine = o;
  mine.count = o.count / node.size();
  mine.output = o.out() + nodes.local * mine.bytes();
  ring_reduce_scatter(mine, node);
  mine.input = mine.output;
  ring_all_reduce(mine, across);
  mine.output = o.output;
  ring_all_gather(mine, node);
}

void leader_all_reduce(const Operands& o, const Nodes& nodes, Transport& t) {
  GroupView node(t, nodes.mine);
  binomial_tree_reduce(o, node);
  Operands sum = o;
  sum.input = o.output;
  if (nodes.local == 0) {
    GroupView leaders(t, nodes.across(0));
    ring_all_reduce(sum, leaders);
  }
  binomial_tree_broadcast(sum, node);
}

}  // namespace

void hierarchical_all_reduce(const Operands& o, Transport& t) {
  check_reduction(o.dtype, o.op);
  t.begin(rootless_call_of(Collective::kAllReduce, o, "hierarchical"));
  t.wait_for_all();  // a node of one rank copies before it hears from anybody
  const Nodes nodes(t);
  // An average is taken once, at the end, not of averages.
  Operands sum = o;
  sum.root = 0;
  if (o.op == ReduceOp::kAvg) sum.op = ReduceOp::kSum;
  if (nodes.even && o.count >= nodes.mine.size()) {
    const std::size_t rest = o.count % nodes.mine.size();
    sum.count = o.count - rest;
    even_all_reduce(sum, nodes, t);
    if (rest > 0) {
      Operands end = sum;
      end.count = rest;
      end.input = o.in() + sum.bytes();
      end.output = o.out() + sum.bytes();
      leader_all_reduce(end, nodes, t);
    }
  } else {
    leader_all_reduce(sum, nodes, t);
  }
  if (o.op == ReduceOp::kAvg) divide(o.output, o.count, o.dtype, t.size());
}

// From the root to one rank of each node, then within the nodes; in the root's
// own node that one is the root.
void hierarchical_broadcast(const Operands& o, Transport& t) {
  t.begin(call_of(Collective::kBroadcast, o, "hierarchical"));
  const Nodes nodes(t);
  const auto leader_of = [&](const std::vector<int>& ranks) {
    const bool here =
        std::find(ranks.begin(), ranks.end(), o.root) != ranks.end();
    return here ? o.root : ranks.front();
  };
  std::vector<int> leaders;
  for (const auto& ranks : nodes.by_node) leaders.push_back(leader_of(ranks));
  const auto place = [](const std::vector<int>& ranks, int rank) {
    return static_cast<int>(std::find(ranks.begin(), ranks.end(), rank) -
                            ranks.begin());
  };
  Operands turn = o;
  const int leader = leader_of(nodes.mine);
  if (t.rank() == leader) {
    GroupView across(t, leaders);
    turn.root = place(leaders, o.root);
    binomial_tree_broadcast(turn, across);
  }
  GroupView node(t, nodes.mine);
  turn.root = place(nodes.mine, leader);
  turn.input = o.output;
  binomial_tree_broadcast(turn, node);
}

}  // namespace dai::hardware
