// SPDX-License-Identifier: Apache-2.0
#pragma once

// A chain: the root sends to the next rank, which sends to the next. Whole
// messages would take n - 1 times as long as one; in chunks, a rank passes one
// on while the next arrives, and the last rank has everything n - 2 chunks
// after the first. So the time hardly depends on n, for large messages.
//
//   rank 1   receives 0 1 2 3 ...
//            sends      0 1 2 3 ...
//
//   pipelined_broadcast(operands, transport);
//   naive_chain_broadcast(operands, transport);  // the same in one chunk

#include "ch02_hardware/collectives/operands.h"

namespace dai::hardware {

inline constexpr std::size_t kBroadcastChunkBytes = 131072;

void pipelined_broadcast(const Operands& operands, Transport& transport);
void naive_chain_broadcast(const Operands& operands, Transport& transport);

}  // namespace dai::hardware
