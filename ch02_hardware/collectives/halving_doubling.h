// SPDX-License-Identifier: Apache-2.0
#pragma once

// Rabenseifner's algorithm: recursive halving, then recursive doubling. In each
// step of the first half a rank and its partner share their range of the buffer
// in two and each adds up one half of it; after log2(n) steps a rank owns the
// sum of 1/n of the buffer. The second half runs the same steps backwards and
// gathers. As few bytes as the ring, 2 log2(n) steps instead of 2 (n - 1).
// (Thakur, Rabenseifner, Gropp: Optimization of collective communication
// operations in MPICH, 2005.) Where n is no power of two: power_of_two.h.
//
//   halving_doubling_all_reduce(operands, transport);

#include "ch02_hardware/collectives/operands.h"

namespace dai::hardware {

void halving_doubling_all_reduce(const Operands& operands,
                                 Transport& transport);

}  // namespace dai::hardware
