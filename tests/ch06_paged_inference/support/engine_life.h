// SPDX-License-Identifier: Apache-2.0
#pragma once

// An engine's life out of choices: requests that begin alike, cancellations in
// any state, preemptions, failing steps, a cache that is emptied, in a pool too
// small for them. After every step the ledger is checked, in the end every
// block is free, and every answer is what the whole context says.
//
//   Choices choices(1234);               // or the bytes of a fuzzer
//   LifeSummary done = live(choices, /*operations=*/100000);
//
// Throws std::logic_error for whatever is wrong.

#include <cstdint>
#include <random>
#include <span>

namespace dai::paged {

class Choices {
 public:
  explicit Choices(std::uint64_t seed) : random_(seed) {}
  explicit Choices(std::span<const std::uint8_t> bytes)
      : bytes_(bytes), from_bytes_(true) {}

  // [0, n). Bytes that have run out are zeros.
  std::uint64_t below(std::uint64_t n);
  bool over() const { return from_bytes_ && at_ >= bytes_.size(); }

 private:
  std::mt19937_64 random_;
  std::span<const std::uint8_t> bytes_;
  std::size_t at_ = 0;
  bool from_bytes_ = false;
};

struct LifeSummary {
  std::int64_t operations = 0, steps = 0, finished = 0, cancelled = 0,
               failed = 0, preemptions = 0, evicted = 0, copied = 0,
               deduplicated = 0, shared = 0;
};

LifeSummary live(Choices& choices, std::int64_t operations);

}  // namespace dai::paged
