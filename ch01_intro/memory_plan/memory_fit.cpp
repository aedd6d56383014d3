// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory_plan/memory_fit.h"

#include <fmt/format.h>

#include "common/errors.h"

namespace dai::intro {
namespace {

double gib(std::int64_t bytes) {
  return static_cast<double>(bytes) / (1 << 30);
}

}  // namespace

void check_fits(const PlanSetup& setup, std::int64_t free_bytes) {
  setup.check();
  const PlanPeak peak = plan_memory(setup).peak();
  if (free_bytes < 0 || peak.bytes <= free_bytes) return;
  throw UsageError(fmt::format(
      "a step of {} with {} x {} tokens needs {:.1f} GiB ({}, {}), {:.1f} GiB "
      "are free: fewer sequences, or a smaller model",
      setup.config.name, setup.batch, setup.seq, gib(peak.bytes), peak.phase,
      peak.where, gib(free_bytes)));
}

}  // namespace dai::intro
