// SPDX-License-Identifier: Apache-2.0
#pragma once

// Gradients are many and small; wires want few and large messages. So gradients
// share buckets: flat buffers that travel whole. Too small a bucket pays a
// latency each; too large a one leaves late, when nothing is left to hide its
// way behind (Li et al., PyTorch Distributed, VLDB 2020, section 3.2).
//
//   const BucketPlan plan = plan_buckets(parameters, expected_ready_order(n),
//                                        {.first_bytes = 1 << 20});
//   GradientBuckets buckets(parameters, plan);
//   buckets.take_gradient(i);        // copies .grad in, makes it a view
//   group.all_reduce(buckets.flat(buckets.bucket_of(i)));
//
// A bucket holds one dtype on one device. Backward makes the last layer's
// gradients first, so buckets are filled from the end of the parameter list
// until an order has been observed.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "ch01_intro/named_parameter.h"

namespace dai::ddp {

using intro::NamedParameter;

// PyTorch's defaults: the first bucket is small so that the wire starts early.
struct BucketCaps {
  std::int64_t first_bytes = 1 << 20;
  std::int64_t bytes = 25 << 20;

  void check() const;  // UsageError unless both are at least 1
  // Fractions, too; UsageError for what is no size.
  static BucketCaps of_mib(double first, double rest);
};

// Which parameters share a bucket: indices, in the order in which buckets are
// sent and, within one, in which gradients are laid out.
using BucketPlan = std::vector<std::vector<std::size_t>>;

// 0 .. n - 1 backwards: what backward does to a model written in the order of
// its forward.
std::vector<std::size_t> expected_ready_order(std::size_t parameters);

// Fills buckets in `order`; one is closed by the gradient that reaches its cap,
// as c10d's compute_bucket_assignment_by_size does it, so that a bucket may be
// larger than the cap by less than its last gradient. Buckets are in the order
// of their first gradient. Throws std::invalid_argument unless `order` is a
// permutation of the parameters' indices.
BucketPlan plan_buckets(const std::vector<NamedParameter>& parameters,
                        const std::vector<std::size_t>& order,
                        const BucketCaps& caps);

// The buckets' memory: as much again as the gradients, unless gradients live in
// it (they do from take_gradient() on).
class GradientBuckets {
 public:
  // `plan` has each parameter once (std::invalid_argument).
  GradientBuckets(std::vector<NamedParameter> parameters, BucketPlan plan);

  std::size_t size() const { return flats_.size(); }
  const std::vector<std::size_t>& parameters_of(std::size_t bucket) const {
    return plan_[bucket];
  }
  std::size_t bucket_of(std::size_t parameter) const {
    return bucket_of_[parameter];
  }
  const at::Tensor& flat(std::size_t bucket) const { return flats_[bucket]; }
  // Where the parameter's gradient lies in its bucket, in the parameter's
  // shape.
  const at::Tensor& view(std::size_t parameter) const {
    return views_[parameter];
  }

  // Copies the gradient into its place, unless it is there, and makes it live
  // there: what arrives in the bucket has then arrived in .grad.
  void take_gradient(std::size_t parameter);

 private:
  const std::vector<NamedParameter> parameters_;
  const BucketPlan plan_;
  std::vector<at::Tensor> flats_;       // [bucket] of [elements]
  std::vector<at::Tensor> views_;       // [parameter]
  std::vector<std::size_t> bucket_of_;  // [parameter]
};

}  // namespace dai::ddp
