// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/engine/policy.h"

#include <fmt/format.h>

#include "common/errors.h"

namespace dai::paged {

std::unique_ptr<SchedulingPolicy> scheduling_policy(const std::string& name) {
  if (name == "fcfs") return std::make_unique<FirstComeFirstServed>();
  if (name == "priority") return std::make_unique<ByPriority>();
  throw UsageError(
      fmt::format("policy '{}': fcfs and priority are known", name));
}

}  // namespace dai::paged
