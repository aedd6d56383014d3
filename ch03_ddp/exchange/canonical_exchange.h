// SPDX-License-Identifier: Apache-2.0
#pragma once

// Sums whose bits no layout changes: not the number of ranks, not the buckets'
// sizes, not when a bucket was ready. The additions follow chapter 2's tree
// over microbatch ids (ch02_hardware/canonical/canonical_tree.h), for any
// backend and device:
//
//   keep()    adds a microbatch to its sibling as soon as both are there
//   start()   all_to_all: slice r of my subtrees' sums goes to rank r
//   finish()  rank r adds up its slice in the tree's order; all_gather
//
//   CanonicalExchange exchange(parameters.size(), microbatches, &group);
//
// Costs, against an all_reduce: (1 + s) / 2 times the bytes for the s subtrees
// that this rank ships (CanonicalTree::wire_factor), and memory for the sums
// that wait for their sibling: most_held() gradients of the model at once,
// about log2 of this rank's microbatches.

#include <vector>

#include "ch02_hardware/canonical/canonical_tree.h"
#include "ch03_ddp/exchange/bucket_exchange.h"

namespace dai {
class ProcessGroup;
}

namespace dai::ddp {

class CanonicalExchange : public BucketExchange {
 public:
  // `microbatches`: of a step, all ranks together. A null group: alone.
  // Throws UsageError when the ranks do not divide them.
  CanonicalExchange(std::size_t parameters, std::int64_t microbatches,
                    ProcessGroup* group);
  ~CanonicalExchange() override;

  std::string name() const override { return "canonical"; }
  bool keeps_microbatches_apart() const override { return true; }
  // Throws std::logic_error for a microbatch that is not this rank's or comes
  // twice; start() for one that never came.
  void keep(std::size_t parameter, std::int64_t microbatch,
            at::Tensor gradient) override;
  void start(ReadyBucket bucket) override;
  void finish() override;

  // Bytes that this rank sends, over those of an all_reduce.
  double wire_factor() const;
  // Sums of one parameter that were ever held at once.
  std::size_t most_held() const;

 private:
  struct Sent;

  ProcessGroup* const group_;
  const int ranks_, rank_;
  const hardware::CanonicalTree tree_;
  std::vector<std::size_t> shipped_;                     // [rank]: its subtrees
  std::vector<hardware::SubtreeSums<at::Tensor>> kept_;  // [parameter]
  std::vector<Sent> sent_;
};

}  // namespace dai::ddp
