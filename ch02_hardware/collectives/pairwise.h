// SPDX-License-Identifier: Apache-2.0
#pragma once

// Pairwise exchange: in step k, rank r sends what is for r + k and receives
// from r - k. In n - 1 steps each pair has met once, every rank sends and
// receives one message at a time, and no byte travels more than once. The
// algorithm for all_to_all, and for a reduce_scatter whose additions must come
// in a fixed order: each rank gets all parts of its slice and adds them in the
// order of ranks, so that a result does not depend on its place in the buffer.
//
//   pairwise_all_to_all(operands, transport);

#include "ch02_hardware/collectives/operands.h"

namespace dai::hardware {

void pairwise_all_to_all(const Operands& operands, Transport& transport);
void pairwise_reduce_scatter(const Operands& operands, Transport& transport);

// Where the ranks send each other different amounts. By rank, in bytes; the
// parts of input and output lie behind one another. What rank a sends to b is
// what b expects from a, or PeerError on both, before anything is moved.
struct UnevenOperands {
  const void* input = nullptr;
  void* output = nullptr;
  std::span<const std::size_t> send_bytes, receive_bytes;  // [size]
};
void pairwise_all_to_all_uneven(const UnevenOperands& operands,
                                Transport& transport);
void naive_all_to_all_uneven(const UnevenOperands& operands,
                             Transport& transport);

}  // namespace dai::hardware
