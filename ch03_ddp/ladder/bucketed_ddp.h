// SPDX-License-Identifier: Apache-2.0
#pragma once

// Data parallelism with buckets: as naive_ddp (ch01_intro/sync/naive_ddp.h),
// but gradients travel in a few large messages instead of one a parameter.
// Backward still ends before the first byte leaves.
//
//   BucketedDdp sync(decoder.parameters(), /*microbatches=*/12,
//                    std::make_unique<AllReduceExchange>(&group), {});
//
// A parameter without a gradient ends the step with std::runtime_error that
// names it (ch03_ddp/buckets/unreached.h).

#include "ch03_ddp/ladder/bucket_sender.h"

namespace dai::ddp {

class BucketedDdp : public intro::GradientSync {
 public:
  BucketedDdp(std::vector<NamedParameter> parameters, std::int64_t microbatches,
              std::unique_ptr<BucketExchange> exchange, const BucketCaps& caps);

  void begin_step() override;
  void after_backward(const intro::Microbatch& microbatch) override;
  // wire_ms has the wait for the slowest rank in it.
  intro::SyncTimes finish_step() override;

 private:
  BucketSender sender_;
};

}  // namespace dai::ddp
