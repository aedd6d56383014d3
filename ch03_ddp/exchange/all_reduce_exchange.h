// SPDX-License-Identifier: Apache-2.0
#pragma once

// The plain way: one asynchronous all_reduce a bucket.
//
//   AllReduceExchange exchange(&group);   // null: this rank is alone

#include <vector>

#include "ch03_ddp/exchange/bucket_exchange.h"

namespace dai {
class ProcessGroup;
}

namespace dai::ddp {

class AllReduceExchange : public BucketExchange {
 public:
  explicit AllReduceExchange(ProcessGroup* group);
  ~AllReduceExchange() override;

  std::string name() const override { return "all_reduce"; }
  void start(ReadyBucket bucket) override;
  void finish() override;

 private:
  ProcessGroup* const group_;
  struct Sent;
  std::vector<Sent> sent_;
};

}  // namespace dai::ddp
