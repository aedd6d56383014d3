// SPDX-License-Identifier: Apache-2.0
#pragma once

// What becomes of the memory for keys and values under four ways of giving it
// out, on one trace of requests: the measurement of the PagedAttention paper
// (arXiv:2309.06180, figure 2), whose names these are.
//
//   const std::vector<RequestLengths> trace = lengths_like_chats(200, 2048, 1);
//   MemoryUse paged = serve_paged(trace, /*slots=*/16384, /*block_size=*/16);
//   MemoryUse max = serve_reserved(trace, 16384, Reservation::kMax, 2048);
//
// First come, first served; a step computes a token of every running request,
// a prompt as a whole. serve_paged() is this chapter's scheduler on blocks,
// preemption included. serve_reserved() is better than any real allocator: it
// never loses memory between reservations.

#include <cstdint>
#include <string>
#include <vector>

namespace dai::paged {

struct RequestLengths {
  std::int64_t prompt = 0, output = 0;  // tokens
};

// Lengths as people's conversations have them: log-normal, with the means that
// the paper gives for ShareGPT (161 and 338), cut at max_length in all.
std::vector<RequestLengths> lengths_like_chats(std::int64_t requests,
                                               std::int64_t max_length,
                                               std::uint64_t seed);

enum class Reservation {
  kMax,     // the longest a request may become
  kPow2,    // the next power of two of what it does become
  kOracle,  // exactly that, foreseen
};

// Means over all steps, in slots of a token.
struct MemoryUse {
  double tokens = 0;      // hold keys and values
  double later = 0;       // reserved, and used before the request ends
  double never = 0;       // reserved, and never used
  double slots = 0;       // in all
  double batch = 0;       // requests running
  std::int64_t most = 0;  // at once
  std::int64_t preemptions = 0;
  std::vector<std::int64_t> batches = {};  // of each step

  // Of what is taken at a time, the part that holds nothing, in percent.
  double waste_percent() const {
    return 100 * (later + never) / (tokens + later + never);
  }
};

MemoryUse serve_paged(const std::vector<RequestLengths>& trace,
                      std::int64_t slots, std::int64_t block_size,
                      double watermark = 0);
MemoryUse serve_reserved(const std::vector<RequestLengths>& trace,
                         std::int64_t slots, Reservation reservation,
                         std::int64_t max_length);

}  // namespace dai::paged
