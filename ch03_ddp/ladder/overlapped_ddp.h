// SPDX-License-Identifier: Apache-2.0
#pragma once

// Data parallelism that sends while it computes: during the last microbatch's
// backward a bucket leaves as soon as its last gradient is there, while earlier
// layers are still at work. What the wire needs beyond that is "exposed", and
// is all that finish_step() waits for.
//
//   backward   | layer 5 | layer 4 | layer 3 | layer 2 | layer 1 |
//   wire                 [bucket 0 ][   bucket 1   ]   [bucket 2 ]
//                                                             ^^^^^ exposed
//
//   OverlappedDdp sync(decoder.parameters(), 12,
//                      std::make_unique<AllReduceExchange>(&group), {},
//                      &group);
//
// In the first step, buckets are filled in the reverse order of parameters;
// then once more in the order in which rank 0's gradients really came, which
// all ranks follow. Buckets leave in the same order on every rank: one that is
// ready early waits for those before it.
//
// Errors as bucketed_ddp.h; nothing is sent any more after one.

#include <memory>
#include <optional>
#include <vector>

#include "ch03_ddp/buckets/ready_hooks.h"
#include "ch03_ddp/ladder/bucket_sender.h"

namespace dai {
class ProcessGroup;
}

namespace dai::ddp {

class OverlappedDdp : public intro::GradientSync {
 public:
  // A null group: alone.
  OverlappedDdp(std::vector<NamedParameter> parameters,
                std::int64_t microbatches,
                std::unique_ptr<BucketExchange> exchange,
                const BucketCaps& caps, ProcessGroup* group);

  void begin_step() override;
  void before_backward(const intro::Microbatch& microbatch,
                       const at::Tensor& loss) override;
  void after_backward(const intro::Microbatch& microbatch) override;
  // wire_ms: what was left to wait for, the exposed part.
  intro::SyncTimes finish_step() override;

  const GradientBuckets& buckets() const { return sender_.buckets(); }
  bool rebuilt() const { return rebuilt_; }

 private:
  void on_ready(std::size_t parameter);
  void rebuild();

  BucketSender sender_;
  const BucketCaps caps_;
  ProcessGroup* const group_;
  bool rebuilt_ = false;
  std::vector<std::size_t> ready_order_;  // of the first step's last backward
  // Of the backward that is under way:
  std::optional<intro::Microbatch> microbatch_;
  std::vector<bool> reached_;         // [parameter]
  std::vector<std::size_t> pending_;  // [bucket]: gradients still missing
  std::size_t next_bucket_ = 0;       // to be sent
  ReadyHooks hooks_;                  // last: they call into the above
};

}  // namespace dai::ddp
