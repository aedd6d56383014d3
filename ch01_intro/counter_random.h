// SPDX-License-Identifier: Apache-2.0
#pragma once

// Random numbers without state: the value is a function of (key, counter), so
// any rank can compute any element of any stream without the elements before
// it. That is what makes weights and batches equal at every world size: there
// is no generator whose state depends on who drew how often.
//
//   std::uint64_t key = stream_key(/*seed=*/1234, "layer1.weight");
//   float u = uniform01(key, /*counter=*/element);
//
// The mixer is the finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable
// pseudorandom number generators, 2014); names are hashed by FNV-1a.

#include <cstdint>
#include <string_view>

#include "common/fnv1a.h"

namespace dai::intro {

// A bijection on 64 bits in which every input bit moves every output bit.
constexpr std::uint64_t mix64(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// One independent stream for each name under a seed.
constexpr std::uint64_t stream_key(std::uint64_t seed, std::string_view name) {
  return mix64(fnv1a(name) ^ mix64(seed));
}

// Uniform in [0, 1): 24 bits, as many as a float's significand holds, so the
// conversion is exact and equal on every machine.
constexpr float uniform01(std::uint64_t key, std::uint64_t counter) {
  return static_cast<float>(mix64(key ^ mix64(counter)) >> 40) * 0x1p-24f;
}

}  // namespace dai::intro
