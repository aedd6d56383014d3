// SPDX-License-Identifier: Apache-2.0
#pragma once

// The ring: rank r sends to r + 1 and receives from r - 1, all at once. In
// n - 1 steps every part of the buffer has passed by all ranks and been added
// up on the way (reduce_scatter); in n - 1 more the results have gone around
// (all_gather). A rank sends 2 (n - 1) / n times the buffer, which is the least
// possible, in 2 (n - 1) steps, which is not: for large messages. (Patarasuk,
// Yuan: Bandwidth optimal all-reduce algorithms, 2009.)
//
//   step 0 of reduce_scatter, 4 ranks:   0 --part 3--> 1 --part 0--> 2 ...
//
// naive_ring_all_reduce waits for a whole part before it adds it; the real one
// adds while the part arrives, straight from where the transport keeps it, and
// copies nothing first.
//
// An element's additions start at the rank after the one that ends up with it,
// so its last bits depend on its place in the buffer and on the ranks.
//
//   ring_all_reduce(operands, transport);     // operands.h, transport.h

#include "ch02_hardware/collectives/operands.h"

namespace dai::hardware {

void naive_ring_all_reduce(const Operands& operands, Transport& transport);

void ring_all_reduce(const Operands& operands, Transport& transport);
void ring_reduce_scatter(const Operands& operands, Transport& transport);
void ring_all_gather(const Operands& operands, Transport& transport);

}  // namespace dai::hardware
