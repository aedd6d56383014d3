// SPDX-License-Identifier: Apache-2.0
#pragma once

// Some of a transport's ranks, counted anew: what a hierarchical algorithm
// gives to another algorithm as its world. The collective has been announced to
// all ranks already, so begin() says nothing here.
//
//   GroupView node(transport, {4, 5, 6, 7});     // on one of these ranks
//   ring_reduce_scatter(operands, node);

#include <vector>

#include "ch02_hardware/transport/transport.h"

namespace dai::hardware {

class GroupView final : public Transport {
 public:
  // `ranks` contains this rank; the same, in the same order, on all of them.
  GroupView(Transport& transport, std::vector<int> ranks);

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(ranks_.size()); }
  std::string medium() const override { return transport_.medium(); }
  int node_of(int rank) const override {
    return transport_.node_of(ranks_[rank]);
  }
  void begin(const Call&) override {}
  void wait_for_all() override { transport_.wait_for_all(); }
  void exchange(std::span<const Outgoing> outgoing,
                std::span<const Incoming> incoming) override;
  using Transport::exchange;

 private:
  Transport& transport_;
  const std::vector<int> ranks_;
  int rank_ = -1;
  std::vector<Outgoing> outgoing_;
  std::vector<Incoming> incoming_;
};

}  // namespace dai::hardware
