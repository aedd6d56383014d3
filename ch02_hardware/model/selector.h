// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which algorithm, for how many bytes: the one that the fitted model says is
// the fastest (alpha_beta.h). All ranks choose alike, since they have the same
// model and the same ranks; where they have not, the transport finds out, since
// the algorithm is part of what is announced.
//
//   Selector selector(CollectiveModel::built_in(), transport);
//   selector.choose(Collective::kAllReduce, bytes).run(operands, transport);
//
// Decided once for each power of two of the size; choosing is a look-up.

#include <array>
#include <cstddef>
#include <map>
#include <string>

#include "ch02_hardware/collectives/algorithms.h"
#include "ch02_hardware/model/alpha_beta.h"

namespace dai::hardware {

class Selector {
 public:
  Selector(const CollectiveModel& model, Transport& transport);

  // `bytes` as nccl-tests counts the size (algorithm_cost.h).
  const Algorithm& choose(Collective what, std::size_t bytes) const;

  // What the model says, in seconds; infinite where it knows nothing or the
  // algorithm does not run here. Only naive ones are never chosen.
  double predicted_s(const Algorithm& algorithm, std::size_t bytes) const;

 private:
  static constexpr int kPowers = 48;
  static constexpr int kCollectives = 10;
  double hierarchical_s(const Algorithm& algorithm, double bytes) const;

  const CollectiveModel& model_;
  Transport& transport_;
  std::string medium_;
  int nodes_ = 1, most_on_node_ = 1;
  std::array<std::array<const Algorithm*, kPowers>, kCollectives> best_{};
};

}  // namespace dai::hardware
