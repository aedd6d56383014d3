// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/trainer/learning_rate.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "common/errors.h"

namespace dai::intro {

void WarmupCosine::check() const {
  if (!(peak > 0) || !std::isfinite(peak)) {
    throw UsageError(
        fmt::format("learning rate {}: a positive number is expected", peak));
  }
  if (!(floor_fraction >= 0 && floor_fraction <= 1)) {
    throw UsageError(fmt::format(
        "learning rate floor {}: a fraction of the peak from 0 to 1 is "
        "expected",
        floor_fraction));
  }
  if (warmup_steps < 0 || total_steps < 1 || warmup_steps > total_steps) {
    throw UsageError(fmt::format(
        "{} warm-up steps of {}: the warm-up must fit into the training",
        warmup_steps, total_steps));
  }
}

double learning_rate(const WarmupCosine& schedule, std::int64_t step) {
  if (step < schedule.warmup_steps) {
    return schedule.peak * static_cast<double>(step + 1) /
           static_cast<double>(schedule.warmup_steps);
  }
  const double floor = schedule.peak * schedule.floor_fraction;
  if (step >= schedule.total_steps) return floor;
  const double t =
      static_cast<double>(step - schedule.warmup_steps) /
      static_cast<double>(schedule.total_steps - schedule.warmup_steps);
  return floor +
         (schedule.peak - floor) * (1 + std::cos(std::numbers::pi * t)) / 2;
}

}  // namespace dai::intro
