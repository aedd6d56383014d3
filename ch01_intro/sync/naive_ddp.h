// SPDX-License-Identifier: Apache-2.0
#pragma once

// Data parallelism as one would write it on a whiteboard: backward as usual,
// then all_reduce every parameter's gradient, one after the other, and divide.
// Nothing overlaps and every parameter pays a latency of its own; chapter 3
// measures what that costs and replaces it behind the same interface.
//
// The sum's order is Gloo's or NCCL's and changes with the number of ranks, so
// the result is the mean up to rounding only (canonical_sum.h: bit for bit).
//
//   NaiveDdp sync(model.parameters(), /*microbatches=*/12, &group);
//
// `microbatches` is the number in a step of all ranks together. A null group
// means that this rank is alone.

#include <vector>

#include "ch01_intro/named_parameter.h"
#include "ch01_intro/sync/gradient_sync.h"

namespace dai {
class ProcessGroup;
}

namespace dai::intro {

class NaiveDdp : public GradientSync {
 public:
  NaiveDdp(std::vector<NamedParameter> parameters, std::int64_t microbatches,
           ProcessGroup* group);

  // The hooks between stay empty: nothing is sent before backward has ended.
  void begin_step() override;
  SyncTimes finish_step() override;

 private:
  std::vector<NamedParameter> parameters_;
  std::int64_t microbatches_;
  ProcessGroup* group_;
};

}  // namespace dai::intro
