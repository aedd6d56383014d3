// SPDX-License-Identifier: Apache-2.0
#pragma once

// What happens to a bucket between "my gradients are in it" and "everybody's
// are". When buckets become ready is another question, answered by the syncs of
// ch03_ddp/ladder/; each of them works with each of these:
//
//   AllReduceExchange     sums, as it is
//   CanonicalExchange     sums in an order that no layout changes
//   (ch03_ddp/hooks/)     compressed on the wire
//
//   exchange.start(bucket);   // for each bucket, as it becomes ready: sends
//   exchange.finish();        // once, after the last: sums lie in the buckets
//
// Two calls and not a future, because several of these need a second collective
// after the first has come (compressed sums, canonical sums). All ranks must
// issue collectives in one order, and a callback of a backend's thread cannot
// know it. Whatever must follow is issued by finish(), bucket by bucket.
//
// Called by the thread that runs backward, on all ranks alike: same buckets,
// same order. Errors of the process group pass through.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace dai::ddp {

// A bucket on its way. `flat` [elements] has this rank's sum over its
// microbatches, and after finish() that of all ranks.
struct ReadyBucket {
  std::size_t index = 0;  // counts up from 0 within a step
  bool last = false;      // of this step
  at::Tensor flat;
  std::vector<std::size_t> parameters = {};  // what is in it, by index
  // Views of flat, in the parameters' shapes.
  std::vector<at::Tensor> gradients = {};
};

class BucketExchange {
 public:
  virtual ~BucketExchange() = default;

  // "all_reduce", "canonical", "powersgd rank 4", ...: for tables.
  virtual std::string name() const = 0;

  // Whether each microbatch's gradient must be handed over by itself: then the
  // sync calls keep() after each microbatch and leaves no .grad to add to.
  virtual bool keeps_microbatches_apart() const { return false; }
  // gradient: of one parameter and one microbatch; the exchange may keep and
  // change it. Until the bucket has been started, `gradient` stays as it is.
  virtual void keep(std::size_t /*parameter*/, std::int64_t /*microbatch*/,
                    at::Tensor /*gradient*/) {}

  virtual void start(ReadyBucket bucket) = 0;
  virtual void finish() = 0;
};

}  // namespace dai::ddp
