// SPDX-License-Identifier: Apache-2.0
#pragma once

// Collectives for ranks that see each other's memory, which then have no need
// to send: a rank reads what it wants and puts results where they belong.
// (Named as in GPU inference engines, whose custom all-reduce does the same
// over NVLink.)
//
//   one_shot  each rank copies its data into its slot, then reads all slots and
//             adds them up: one step, n times the reading. Up to a slot's size.
//   two_shot  rank r adds up part r of everybody's input, chunk by chunk, and
//             writes each sum into everybody's output while it is in the cache:
//             every byte is read once and written once.
//
// Sums are taken in the order of ranks: a result does not depend on its place
// in the buffer. Needs Transport::window(), and all but one_shot its
// reaches_memory(); std::logic_error without.
//
//   two_shot_all_reduce(operands, transport);

#include "ch02_hardware/collectives/operands.h"

namespace dai::hardware {

// Up to SharedWindow::kSlotBytes.
void one_shot_all_reduce(const Operands& operands, Transport& transport);
void two_shot_all_reduce(const Operands& operands, Transport& transport);
void direct_reduce_scatter(const Operands& operands, Transport& transport);
void direct_all_gather(const Operands& operands, Transport& transport);
void direct_broadcast(const Operands& operands, Transport& transport);
void direct_all_to_all(const Operands& operands, Transport& transport);

}  // namespace dai::hardware
