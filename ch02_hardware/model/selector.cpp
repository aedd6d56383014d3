// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/model/selector.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <set>
#include <stdexcept>

namespace dai::hardware {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// Bytes in one rank's buffer, which is what a slot has to hold.
std::size_t slot_bytes(Collective what, std::size_t bytes, int ranks) {
  return size_bytes(what, 1, 1, ranks) > 1 ? bytes / ranks : bytes;
}

int nodes_count(const Transport& transport) {
  std::set<int> nodes;
  for (int rank = 0; rank < transport.size(); ++rank) {
    nodes.insert(transport.node_of(rank));
  }
  return static_cast<int>(nodes.size());
}

}  // namespace

Selector::Selector(const CollectiveModel& model, Transport& transport)
    : model_(model), transport_(transport), medium_(transport.medium()) {
  // What was not measured by itself is like its slower part, or its kin.
  if (medium_ == "shm+tcp") medium_ = "tcp";
  if (medium_ == "threads") medium_ = "shm";
  const bool known = std::any_of(
      model.algorithms.begin(), model.algorithms.end(),
      [&](const AlgorithmModel& one) { return one.medium == medium_; });
  if (!known) medium_ = nodes_count(transport) > 1 ? "tcp" : "shm";
  std::map<int, int> on_node;
  for (int rank = 0; rank < transport.size(); ++rank) {
    most_on_node_ = std::max(most_on_node_, ++on_node[transport.node_of(rank)]);
  }
  nodes_ = static_cast<int>(on_node.size());

  for (const Algorithm& algorithm : algorithms()) {
    if (algorithm.naive) continue;
    auto& best = best_[static_cast<int>(algorithm.collective)];
    for (int power = 0; power < kPowers; ++power) {
      // A bucket holds sizes up to twice this one; all of them must fit.
      const std::size_t bytes = std::size_t{1} << power;
      const std::size_t most = 2 * bytes - 1;
      if (!algorithm.runs_on(
              slot_bytes(algorithm.collective, most, transport.size()),
              transport)) {
        continue;
      }
      const double mine = predicted_s(algorithm, bytes);
      if (!best[power] || mine < predicted_s(*best[power], bytes)) {
        best[power] = &algorithm;
      }
    }
  }
}

const Algorithm& Selector::choose(Collective what, std::size_t bytes) const {
  const int power = bytes == 0 ? 0 : std::bit_width(bytes) - 1;
  const Algorithm* const best =
      best_[static_cast<int>(what)][std::min(power, kPowers - 1)];
  if (!best) throw std::logic_error("no algorithm for this collective");
  return *best;
}

double Selector::predicted_s(const Algorithm& algorithm,
                             std::size_t bytes) const {
  const auto size = static_cast<double>(bytes);
  if (std::string(algorithm.name) == "hierarchical") {
    return hierarchical_s(algorithm, size);
  }
  const AlgorithmModel* const model =
      model_.find(algorithm.collective, algorithm.name, medium_);
  return model ? model->seconds(size, transport_.size()) : kNever;
}

// Its parts are other algorithms, within nodes and across (hierarchical.h).
double Selector::hierarchical_s(const Algorithm& algorithm,
                                double bytes) const {
  if (nodes_ == 1 || most_on_node_ == 1) return kNever;
  const auto part = [&](Collective what, const char* name, const char* medium,
                        double size, int ranks) {
    const AlgorithmModel* const model = model_.find(what, name, medium);
    return model ? model->seconds(size, ranks) : kNever;
  };
  const int k = most_on_node_;
  if (algorithm.collective == Collective::kBroadcast) {
    const char* const tree = "binomial_tree";
    return part(Collective::kBroadcast, tree, "tcp", bytes, nodes_) +
           part(Collective::kBroadcast, tree, "shm", bytes, k);
  }
  return part(Collective::kReduceScatter, "ring", "shm", bytes, k) +
         part(Collective::kAllReduce, "ring", "tcp", bytes / k, nodes_) +
         part(Collective::kAllGather, "ring", "shm", bytes, k);
}

}  // namespace dai::hardware
