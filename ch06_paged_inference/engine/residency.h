// SPDX-License-Identifier: Apache-2.0
#pragma once

// How long blocks live and lie idle: of every block, not of a sample. Times are
// seconds, as BlockPool::set_now() has them.

#include <array>
#include <cstdint>

namespace dai::paged {

// Counts by powers of two of a second: bucket i holds [2^(i-20), 2^(i-19)).
struct Histogram {
  std::array<std::int64_t, 32> buckets{};
  std::int64_t count = 0;
  double sum = 0;
  void add(double seconds);
};

struct Residency {
  Histogram lifetime;           // from allocation to being given out anew
  Histogram idle_before_evict;  // the part of it after the last use
  Histogram reuse_gap;          // from becoming free to being taken again
};

}  // namespace dai::paged
