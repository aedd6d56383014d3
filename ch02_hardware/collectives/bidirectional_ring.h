// SPDX-License-Identifier: Apache-2.0
#pragma once

// Two rings at once: the first half of the buffer travels to the right, the
// second to the left. Links carry both directions at a time, and a ring uses
// one of them; so each message is half as long in the same number of steps.
// Gains where a link's two directions do not share a limit (most networks,
// NVLink), and nothing where one core copies for both.
//
//   bidirectional_ring_all_reduce(operands, transport);

#include "ch02_hardware/collectives/operands.h"

namespace dai::hardware {

void bidirectional_ring_all_reduce(const Operands& operands,
                                   Transport& transport);

}  // namespace dai::hardware
