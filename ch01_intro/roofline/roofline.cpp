// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/roofline/roofline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace dai::intro {
namespace {

bool is_rate(double value) {
  return value > 0 && std::isfinite(value);
}

void check(const Roofline& roofline) {
  if (!is_rate(roofline.peak_flop_per_s)) {
    throw std::invalid_argument("roofline: the peak is not a positive rate");
  }
  for (const double cost : {roofline.exponentials_per_s, roofline.call_seconds,
                            roofline.fresh_bytes_per_s}) {
    if (!(cost >= 0) || !std::isfinite(cost)) {
      throw std::invalid_argument("roofline: a rate or cost is negative");
    }
  }
  std::int64_t below = 0;
  for (std::size_t i = 0; i < roofline.levels.size(); ++i) {
    const MemoryLevel& level = roofline.levels[i];
    const bool is_last = i + 1 == roofline.levels.size();
    if (!is_rate(level.bytes_per_s)) {
      throw std::invalid_argument(fmt::format(
          "roofline: {}'s bandwidth is not a positive rate", level.name));
    }
    if (is_last != (level.capacity_bytes == 0) ||
        (!is_last && level.capacity_bytes <= below)) {
      throw std::invalid_argument(fmt::format(
          "roofline: {} is out of order, the smallest level comes first and "
          "only the last has no limit",
          level.name));
    }
    below = level.capacity_bytes;
  }
  if (roofline.levels.empty()) {
    throw std::invalid_argument("roofline: no memory level");
  }
}

}  // namespace

const char* to_string(Bound bound) {
  switch (bound) {
    case Bound::kCompute:
      return "compute";
    case Bound::kMemory:
      return "memory";
    case Bound::kOverhead:
      return "overhead";
    case Bound::kPages:
      return "pages";
  }
  return "unknown";
}

Placement Roofline::place(const Work& work) const {
  check(*this);
  if (!is_rate(work.seconds) || work.flops < 0 || work.bytes < 0 ||
      work.exponentials < 0 || work.calls < 0 || work.fresh_bytes < 0 ||
      work.flops + work.bytes == 0) {
    throw std::invalid_argument(fmt::format(
        "roofline: {} needs a measured time, and operations or bytes",
        work.name));
  }
  const MemoryLevel* level = &levels.front();
  while (level->capacity_bytes != 0 &&
         level->capacity_bytes < work.working_set_bytes) {
    ++level;
  }
  const auto flops = static_cast<double>(work.flops);
  const auto bytes = static_cast<double>(work.bytes);
  const auto at_rate = [](std::int64_t amount, double rate) {
    return rate > 0 ? static_cast<double>(amount) / rate : 0;
  };
  const double compute_seconds =
      flops / peak_flop_per_s + at_rate(work.exponentials, exponentials_per_s);
  const double page_seconds = at_rate(work.fresh_bytes, fresh_bytes_per_s);
  const double core_seconds = compute_seconds + page_seconds;
  const double memory_seconds = bytes / level->bytes_per_s;
  Placement placement;
  placement.level = level->name;
  placement.bound = core_seconds < memory_seconds    ? Bound::kMemory
                    : compute_seconds < page_seconds ? Bound::kPages
                                                     : Bound::kCompute;
  placement.intensity =
      work.bytes > 0 ? flops / bytes : std::numeric_limits<double>::infinity();
  placement.roof_seconds = std::max(core_seconds, memory_seconds);
  const double overhead = static_cast<double>(work.calls) * call_seconds;
  if (overhead > placement.roof_seconds) {
    placement.bound = Bound::kOverhead;
    placement.roof_seconds = overhead;
  }
  placement.roof_flop_per_s = flops / placement.roof_seconds;
  placement.flop_per_s = flops / work.seconds;
  placement.slowdown = work.seconds / placement.roof_seconds;
  return placement;
}

}  // namespace dai::intro
