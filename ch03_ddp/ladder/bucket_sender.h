// SPDX-License-Identifier: Apache-2.0
#pragma once

// What bucketed and overlapped DDP have in common: gradients go into buckets,
// buckets through an exchange, and come back as means that live in the buckets.
//
//   sender.begin_step();
//   sender.keep(microbatch);       // after each backward but the last one's
//   sender.send(0); sender.send(1) // each bucket once, in order
//   sender.finish();               // .grad is the mean of all microbatches

#include <cstdint>
#include <memory>
#include <vector>

#include "ch01_intro/sync/gradient_sync.h"
#include "ch03_ddp/buckets/gradient_buckets.h"
#include "ch03_ddp/exchange/bucket_exchange.h"

namespace dai::ddp {

class BucketSender {
 public:
  // `microbatches`: of a step, all ranks together.
  BucketSender(std::vector<NamedParameter> parameters,
               std::int64_t microbatches,
               std::unique_ptr<BucketExchange> exchange, BucketPlan plan);

  const std::vector<NamedParameter>& parameters() const { return parameters_; }
  const GradientBuckets& buckets() const { return *buckets_; }
  BucketExchange& exchange() { return *exchange_; }
  // Between steps.
  void set_plan(BucketPlan plan);

  // Forgets the gradients of the step before.
  void begin_step();
  // Hands one parameter's gradient of this microbatch to an exchange that wants
  // them apart; for others it stays where it is and the next adds to it.
  void keep(std::size_t parameter, std::int64_t microbatch);
  void send(std::size_t bucket);
  void finish();

 private:
  const std::vector<NamedParameter> parameters_;
  const std::int64_t microbatches_;
  const std::unique_ptr<BucketExchange> exchange_;
  std::unique_ptr<GradientBuckets> buckets_;
};

}  // namespace dai::ddp
