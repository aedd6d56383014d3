// SPDX-License-Identifier: Apache-2.0
#pragma once

// A BucketExchange as a communication hook of c10d::Reducer. Reducer calls
// runHook() once a bucket, in order, as buckets become ready, and collects the
// futures when backward ends. The last bucket's call is the first moment at
// which all of them have been sent, so that is where the exchange finishes and
// all futures complete.
//
// With a hook Reducer does not divide, so this does. Includes c10d: for .cpp
// files only.

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "ch01_intro/named_parameter.h"
#include "ch03_ddp/exchange/bucket_exchange.h"
#include "ch03_ddp/reducer/reducer_compat.h"

namespace dai::ddp {

class ExchangeHook : public c10d::CommHookInterface {
 public:
  // parameters: those that Reducer has, in its order. Sums are divided by
  // `divisor`. Keeps a reference to the exchange.
  ExchangeHook(const std::vector<intro::NamedParameter>& parameters,
               BucketExchange& exchange, double divisor);

  c10::intrusive_ptr<c10::ivalue::Future> runHook(
      c10d::GradBucket& bucket) override;
  at::Tensor parseHookResult(const c10::IValue& result) override {
    return result.toTensor();
  }
  // Whose gradients come next: for exchanges that keep microbatches apart.
  void set_microbatch(std::int64_t id) { microbatch_ = id; }

 private:
  const std::vector<intro::NamedParameter> parameters_;
  BucketExchange& exchange_;
  const double divisor_;
  std::int64_t microbatch_ = 0;
  std::map<const c10::TensorImpl*, std::size_t> index_of_;
  std::vector<std::pair<at::Tensor, c10::intrusive_ptr<c10::ivalue::Future>>>
      under_way_;
};

}  // namespace dai::ddp
