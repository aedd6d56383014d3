// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/collectives/algorithms.h"

#include <fmt/format.h>

#include "ch02_hardware/collectives/bidirectional_ring.h"
#include "ch02_hardware/collectives/binomial_tree.h"
#include "ch02_hardware/collectives/direct.h"
#include "ch02_hardware/collectives/halving_doubling.h"
#include "ch02_hardware/collectives/hierarchical.h"
#include "ch02_hardware/collectives/naive.h"
#include "ch02_hardware/collectives/pairwise.h"
#include "ch02_hardware/collectives/pipelined_broadcast.h"
#include "ch02_hardware/collectives/recursive_doubling.h"
#include "ch02_hardware/collectives/ring.h"
#include "common/errors.h"

namespace dai::hardware {

std::span<const Algorithm> algorithms() {
  using enum Collective;
  static constexpr bool kNaive = true;
  static constexpr Algorithm kAll[] = {
      {kAllReduce, "naive", naive_all_reduce, kNaive},
      {kAllReduce, "naive_ring", naive_ring_all_reduce, kNaive},
      {kAllReduce, "ring", ring_all_reduce},
      {kAllReduce, "bidirectional_ring", bidirectional_ring_all_reduce},
      {kAllReduce, "recursive_doubling", recursive_doubling_all_reduce},
      {kAllReduce, "halving_doubling", halving_doubling_all_reduce},
      {kAllReduce, "binomial_tree", binomial_tree_all_reduce},
      {kAllReduce, "hierarchical", hierarchical_all_reduce},
      {kAllReduce, "one_shot", one_shot_all_reduce, false, Needs::kSlots},
      {kAllReduce, "two_shot", two_shot_all_reduce, false, Needs::kMemory},
      {kReduce, "naive", naive_reduce, kNaive},
      {kReduce, "binomial_tree", binomial_tree_reduce},
      {kBroadcast, "naive", naive_broadcast, kNaive},
      {kBroadcast, "chain", naive_chain_broadcast, kNaive},
      {kBroadcast, "binomial_tree", binomial_tree_broadcast},
      {kBroadcast, "pipelined", pipelined_broadcast},
      {kBroadcast, "hierarchical", hierarchical_broadcast},
      {kBroadcast, "direct", direct_broadcast, false, Needs::kMemory},
      {kAllGather, "naive", naive_all_gather, kNaive},
      {kAllGather, "ring", ring_all_gather},
      {kAllGather, "recursive_doubling", recursive_doubling_all_gather},
      {kAllGather, "direct", direct_all_gather, false, Needs::kMemory},
      {kReduceScatter, "naive", naive_reduce_scatter, kNaive},
      {kReduceScatter, "ring", ring_reduce_scatter},
      {kReduceScatter, "pairwise", pairwise_reduce_scatter},
      {kReduceScatter, "direct", direct_reduce_scatter, false, Needs::kMemory},
      {kGather, "naive", naive_gather, kNaive},
      {kGather, "binomial_tree", binomial_tree_gather},
      {kScatter, "naive", naive_scatter, kNaive},
      {kScatter, "binomial_tree", binomial_tree_scatter},
      {kAllToAll, "naive", naive_all_to_all, kNaive},
      {kAllToAll, "pairwise", pairwise_all_to_all},
      {kAllToAll, "direct", direct_all_to_all, false, Needs::kMemory},
      {kBarrier, "naive", naive_barrier, kNaive},
      {kBarrier, "dissemination", dissemination_barrier},
  };
  return kAll;
}

bool Algorithm::runs_on(std::size_t bytes, Transport& transport) const {
  switch (needs) {
    case Needs::kNothing:
      return true;
    case Needs::kSlots:
      return transport.window() && bytes <= SharedWindow::kSlotBytes;
    case Needs::kMemory:
      return transport.window() && transport.window()->reaches_memory();
  }
  return false;
}

const Algorithm& algorithm_by_name(Collective collective,
                                   const std::string& name) {
  std::string known;
  for (const Algorithm& algorithm : algorithms()) {
    if (algorithm.collective != collective) continue;
    if (name == algorithm.name) return algorithm;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", algorithm.name);
  }
  throw UsageError(fmt::format("algorithm {}: for {} there are {}", name,
                               to_string(collective), known));
}

}  // namespace dai::hardware
