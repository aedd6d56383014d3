// SPDX-License-Identifier: Apache-2.0
#pragma once

// Two levels: ranks of a node talk through its memory, and only sums cross the
// network. With k ranks on each of m nodes:
//
//   reduce_scatter in the node     each rank holds the node's sum of 1/k
//   all_reduce across the nodes    rank i of each node, on its 1/k
//   all_gather in the node
//
// so each byte of the buffer crosses a node's link as often as in an all_reduce
// of m ranks, whatever k is. Where nodes hold different numbers of ranks, one
// rank of each does it for all: reduce in the node, all_reduce across,
// broadcast in the node. Which rank is where: Transport::node_of().
//
//   hierarchical_all_reduce(operands, transport);
//
// Faster than a flat ring where the network is slower than memory by much; the
// selector (selector.h) knows by how much.

#include "ch02_hardware/collectives/operands.h"

namespace dai::hardware {

void hierarchical_all_reduce(const Operands& operands, Transport& transport);
void hierarchical_broadcast(const Operands& operands, Transport& transport);

}  // namespace dai::hardware
