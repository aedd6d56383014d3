// SPDX-License-Identifier: Apache-2.0
#pragma once

// Recursive doubling: in step k, rank r exchanges all it has with rank
// r xor 2^k. After log2(n) steps everybody has everything. Few steps, but the
// whole buffer in each: for small messages. Where n is no power of two, the
// ranks beyond hand their data to a partner first and get the result from it.
//
//   n = 4:   step 0:  0-1  2-3      step 1:  0-2  1-3
//
// In a combination the lower ranks' part comes first, so that both partners
// compute the same bits. The barrier is the dissemination barrier (Hensgen,
// Finkel, Manber, 1988): in step k a token to r + 2^k; any n.
//
//   recursive_doubling_all_reduce(operands, transport);

#include "ch02_hardware/collectives/operands.h"

namespace dai::hardware {

void recursive_doubling_all_reduce(const Operands& operands,
                                   Transport& transport);
void recursive_doubling_all_gather(const Operands& operands,
                                   Transport& transport);
void dissemination_barrier(const Operands& operands, Transport& transport);

}  // namespace dai::hardware
