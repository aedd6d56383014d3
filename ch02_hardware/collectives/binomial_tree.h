// SPDX-License-Identifier: Apache-2.0
#pragma once

// The binomial tree: in step k, the ranks that have the data double. A message
// reaches everybody in log2(n) steps, and sums come back the same way. With
// ranks counted from the root, a rank's parent is its number without the lowest
// bit that is set. Whole messages at each hop, so for small ones, and for
// collectives with a root.
//
//        0            reduce: leaves send first, parents add in the order of
//     4  2  1         ranks from the root
//     6 5  3
//     7
//
// gather and scatter carry whole subtrees, so a rank near the root moves the
// data of all below it.
//
//   binomial_tree_broadcast(operands, transport);

#include "ch02_hardware/collectives/operands.h"

namespace dai::hardware {

void binomial_tree_broadcast(const Operands& operands, Transport& transport);
void binomial_tree_reduce(const Operands& operands, Transport& transport);
// reduce to rank 0, then broadcast.
void binomial_tree_all_reduce(const Operands& operands, Transport& transport);
void binomial_tree_gather(const Operands& operands, Transport& transport);
void binomial_tree_scatter(const Operands& operands, Transport& transport);

}  // namespace dai::hardware
