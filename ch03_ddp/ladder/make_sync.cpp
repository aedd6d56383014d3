// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/ladder/make_sync.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "ch01_intro/sync/canonical_sum.h"
#include "ch01_intro/sync/naive_ddp.h"
#include "ch03_ddp/exchange/all_reduce_exchange.h"
#include "ch03_ddp/exchange/canonical_exchange.h"
#include "ch03_ddp/hooks/half_exchange.h"
#include "ch03_ddp/hooks/int8_exchange.h"
#include "ch03_ddp/ladder/bucketed_ddp.h"
#include "ch03_ddp/ladder/overlapped_ddp.h"
#include "ch03_ddp/ladder/reducer_ddp.h"
#include "common/errors.h"
#include "common/torch/process_group.h"

namespace dai::ddp {
namespace {

void require_one_of(const char* what, const std::string& name,
                    const std::vector<std::string>& names) {
  if (std::find(names.begin(), names.end(), name) != names.end()) return;
  throw UsageError(fmt::format("{} {}: accepted are {}", what, name,
                               fmt::join(names, ", ")));
}

}  // namespace

const std::vector<std::string>& sync_names() {
  static const std::vector<std::string> names{"naive", "bucketed", "overlapped",
                                              "reducer"};
  return names;
}

const std::vector<std::string>& exchange_names() {
  static const std::vector<std::string> names{
      "all_reduce", "canonical", "fp16", "bf16", "int8", "powersgd"};
  return names;
}

void SyncOptions::check(const std::string& sync) const {
  require_one_of("sync", sync, sync_names());
  require_one_of("exchange", exchange, exchange_names());
  caps.check();
  if (exchange == "powersgd") powersgd.check();
  if (find_unused_parameters && exchange == "canonical") {
    throw UsageError(
        "exchange canonical adds up every gradient: unused parameters have "
        "none");
  }
  if (sync == "naive" && exchange != "all_reduce" && exchange != "canonical") {
    throw UsageError(fmt::format(
        "sync naive has no buckets for exchange {}: take bucketed, overlapped "
        "or reducer",
        exchange));
  }
}

std::unique_ptr<BucketExchange> make_exchange(const SyncOptions& options,
                                              std::size_t parameters,
                                              std::int64_t microbatches,
                                              ProcessGroup& group) {
  const std::string& name = options.exchange;
  if (name == "canonical") {
    return std::make_unique<CanonicalExchange>(parameters, microbatches,
                                               &group);
  }
  if (name == "fp16" || name == "bf16") {
    return std::make_unique<HalfExchange>(
        name == "fp16" ? at::kHalf : at::kBFloat16, group);
  }
  if (name == "int8") {
    return std::make_unique<Int8Exchange>(group, options.error_feedback);
  }
  if (name == "powersgd") {
    PowerSgdOptions powersgd = options.powersgd;
    powersgd.use_error_feedback &= options.error_feedback;
    return std::make_unique<PowerSgdExchange>(powersgd, group);
  }
  return std::make_unique<AllReduceExchange>(&group);
}

std::unique_ptr<intro::GradientSync> make_sync(
    const std::string& sync, const SyncOptions& options,
    const std::vector<NamedParameter>& all, std::int64_t microbatches,
    ProcessGroup& group) {
  options.check(sync);
  // Frozen ones get no gradient, and nothing waits for it.
  std::vector<NamedParameter> parameters;
  for (const NamedParameter& parameter : all) {
    if (parameter.tensor.requires_grad()) parameters.push_back(parameter);
  }
  if (sync == "naive") {
    if (options.exchange == "canonical") {
      return std::make_unique<intro::CanonicalSync>(parameters, microbatches,
                                                    &group);
    }
    return std::make_unique<intro::NaiveDdp>(parameters, microbatches, &group);
  }
  if (sync == "reducer") {
    DdpOptions ddp;
    if (options.caps.bytes != BucketCaps().bytes) {
      ddp.bucket_cap_mb = static_cast<double>(options.caps.bytes) / (1 << 20);
    }
    ddp.gradient_as_bucket_view = options.gradient_as_bucket_view;
    ddp.find_unused_parameters = options.find_unused_parameters;
    // Reducer's own all_reduce needs no hook.
    auto exchange =
        options.exchange == "all_reduce"
            ? nullptr
            : make_exchange(options, parameters.size(), microbatches, group);
    return std::make_unique<ReducerDdp>(parameters, microbatches,
                                        std::move(exchange), group, ddp);
  }
  auto exchange =
      make_exchange(options, parameters.size(), microbatches, group);
  if (sync == "bucketed") {
    return std::make_unique<BucketedDdp>(parameters, microbatches,
                                         std::move(exchange), options.caps);
  }
  return std::make_unique<OverlappedDdp>(
      parameters, microbatches, std::move(exchange), options.caps, &group);
}

}  // namespace dai::ddp
