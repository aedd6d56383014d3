// SPDX-License-Identifier: Apache-2.0
#pragma once

// Every collective as one would write it first: everything goes to one rank,
// which does the work and sends the results. Correct, and the yardstick for the
// others: rank 0 carries 2 (n - 1) times the data while the others wait. The
// sum is taken in the order of ranks.
//
//   naive_all_reduce(operands, transport);
//
// Operands and counts: operands.h. Errors: std::invalid_argument for a
// reduction that does not exist (check_reduction), PeerError.

#include "ch02_hardware/collectives/operands.h"

namespace dai::hardware {

void naive_all_reduce(const Operands& operands, Transport& transport);
void naive_reduce(const Operands& operands, Transport& transport);
void naive_broadcast(const Operands& operands, Transport& transport);
void naive_all_gather(const Operands& operands, Transport& transport);
void naive_reduce_scatter(const Operands& operands, Transport& transport);
void naive_gather(const Operands& operands, Transport& transport);
void naive_scatter(const Operands& operands, Transport& transport);
void naive_all_to_all(const Operands& operands, Transport& transport);
void naive_barrier(const Operands& operands, Transport& transport);

}  // namespace dai::hardware
