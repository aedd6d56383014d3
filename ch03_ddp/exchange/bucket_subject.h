// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a bucket's collectives are called in messages:
// "bucket 2: 31 parameters, the first model.layers.3.mlp.down_proj.weight".

#include <fmt/format.h>

#include <string>
#include <vector>

#include "ch01_intro/named_parameter.h"
#include "ch03_ddp/exchange/bucket_exchange.h"
#include "common/collective_observer.h"

namespace dai::ddp {

inline std::string bucket_subject(
    const ReadyBucket& bucket,
    const std::vector<intro::NamedParameter>& parameters) {
  const std::string& first = parameters[bucket.parameters.front()].name;
  if (bucket.parameters.size() == 1) {
    return fmt::format("bucket {}: {}", bucket.index, first);
  }
  return fmt::format("bucket {}: {} parameters, the first {}", bucket.index,
                     bucket.parameters.size(), first);
}

}  // namespace dai::ddp
