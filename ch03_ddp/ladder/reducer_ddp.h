// SPDX-License-Identifier: Apache-2.0
#pragma once

// The top of the ladder: PyTorch's own Reducer behind chapter 1's trainer. What
// overlapped_ddp.h shows, with everything that years of use have added.
//
//   ReducerDdp sync(decoder.parameters(), 12, nullptr, group,
//                   {.gradient_as_bucket_view = true});
//
// Without an exchange Reducer does the all_reduce itself. Gradients of the
// microbatches before the last one add up under no_sync().
// Errors: those of DistributedDataParallel.

#include <memory>
#include <optional>
#include <vector>

#include "ch01_intro/sync/gradient_sync.h"
#include "ch03_ddp/exchange/bucket_exchange.h"
#include "ch03_ddp/reducer/distributed_data_parallel.h"

namespace dai::ddp {

class ReducerDdp : public intro::GradientSync {
 public:
  ReducerDdp(std::vector<intro::NamedParameter> parameters,
             std::int64_t microbatches,
             std::unique_ptr<BucketExchange> exchange, ProcessGroup& group,
             const DdpOptions& options = {.gradient_as_bucket_view = true});

  void begin_step() override;
  void before_forward(const intro::Microbatch& microbatch) override;
  void before_backward(const intro::Microbatch& microbatch,
                       const at::Tensor& loss) override;
  void after_backward(const intro::Microbatch& microbatch) override;
  // Backward has waited for the wire: nothing is left to wait for.
  intro::SyncTimes finish_step() override;

  const DistributedDataParallel& ddp() const { return ddp_; }

 private:
  const std::int64_t microbatches_;
  ProcessGroup& group_;
  DistributedDataParallel ddp_;
  std::optional<DistributedDataParallel::NoSync> no_sync_;
};

}  // namespace dai::ddp
