// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/engine/residency.h"

#include <algorithm>
#include <cmath>

namespace dai::paged {

void Histogram::add(double seconds) {
  const int exponent = seconds > 0 ? std::ilogb(seconds) + 20 : 0;
  ++buckets[static_cast<std::size_t>(
      std::clamp<int>(exponent, 0, static_cast<int>(buckets.size()) - 1))];
  ++count;
  sum += seconds;
}

}  // namespace dai::paged
