// SPDX-License-Identifier: Apache-2.0
#pragma once

// The ladder's rungs and exchanges by the names that people type.
//
//   auto sync = make_sync("overlapped", {.exchange = "canonical"},
//                         decoder.parameters(), microbatches, group);
//
//   sync       naive         one all_reduce a parameter, after backward (ch. 1)
//              bucketed      one a bucket, after backward
//              overlapped    one a bucket, during backward
//              reducer       the same by c10d::Reducer
//   exchange   all_reduce, canonical; and compressed on the wire, for all
//              rungs but naive: fp16, bf16, int8, powersgd

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ch01_intro/sync/gradient_sync.h"
#include "ch03_ddp/buckets/gradient_buckets.h"
#include "ch03_ddp/exchange/bucket_exchange.h"
#include "ch03_ddp/hooks/powersgd_exchange.h"

namespace dai {
class ProcessGroup;
}

namespace dai::ddp {

const std::vector<std::string>& sync_names();
const std::vector<std::string>& exchange_names();

struct SyncOptions {
  std::string exchange = "all_reduce";
  BucketCaps caps = {};
  bool gradient_as_bucket_view = true;  // of reducer; the others always do so
  bool find_unused_parameters = false;  // of reducer
  PowerSgdOptions powersgd = {};
  bool error_feedback = true;  // of int8 and powersgd

  // Throws UsageError for names that are none, for caps that are none, and for
  // naive with an exchange that needs buckets.
  void check(const std::string& sync) const;
};

std::unique_ptr<BucketExchange> make_exchange(const SyncOptions& options,
                                              std::size_t parameters,
                                              std::int64_t microbatches,
                                              ProcessGroup& group);

// Parameters that require no gradient are left out. `microbatches`: of a step,
// all ranks together. Collective for reducer, which compares the models and
// broadcasts rank 0's. Throws UsageError as check().
std::unique_ptr<intro::GradientSync> make_sync(
    const std::string& sync, const SyncOptions& options,
    const std::vector<NamedParameter>& parameters, std::int64_t microbatches,
    ProcessGroup& group);

}  // namespace dai::ddp
