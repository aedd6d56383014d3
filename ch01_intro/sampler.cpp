// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/sampler.h"

#include <bit>
#include <stdexcept>

#include "ch01_intro/counter_random.h"

namespace dai::intro {
namespace {

// Three rounds of a good mixer already look random (Luby, Rackoff); the rest
// is margin that costs a nanosecond each.
constexpr int kRounds = 6;

// One pass through the network: swaps the halves and mixes one into the other.
// Each round can be undone whatever mix64 returns, hence the bijection.
std::uint64_t feistel(std::uint64_t x, std::uint64_t key, int half_bits) {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits) - 1;
  std::uint64_t left = x >> half_bits;
  std::uint64_t right = x & mask;
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t mixed = mix64(key + mix64(right) + round) & mask;
    const std::uint64_t next = left ^ mixed;
    left = right;
    right = next;
  }
  return (left << half_bits) | right;
}

}  // namespace

std::uint64_t sample_at(std::uint64_t seed, std::uint64_t epoch,
                        std::uint64_t position, std::uint64_t count) {
  if (position >= count) {
    throw std::out_of_range("sample_at: position is beyond the data set");
  }
  const std::uint64_t key = mix64(stream_key(seed, "sampler") + epoch);
  const int bits = std::bit_width(count - 1);
  const int half_bits = bits < 2 ? 1 : (bits + 1) / 2;
  // Outside [0, count)? Go on along the cycle until it comes back in. The
  // domain is less than four times too large, so a few steps suffice; and the
  // walk ends for certain, since the cycle holds `position` itself.
  std::uint64_t x = position;
  do {
    x = feistel(x, key, half_bits);
  } while (x >= count);
  return x;
}

}  // namespace dai::intro
