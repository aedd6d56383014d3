// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the algorithms by powers of two do with any number of ranks. Let p be
// the largest power of two up to n: of the first 2 (n - p) ranks the even ones
// hand their input to the odd one after them, and wait for the result. The odd
// ones and the rest are the p that work, numbered in the order of ranks.
//
//   PowerOfTwo team(transport);
//   const std::byte* mine = team.fold(operands, transport);
//   if (mine) {                                    // I work
//     ... team.rank_of(team.index ^ 1) ...
//   }
//   team.unfold(output, bytes, transport);

#include "ch02_hardware/collectives/operands.h"

namespace dai::hardware {

struct PowerOfTwo {
  explicit PowerOfTwo(const Transport& transport);

  int size = 1;    // p
  int extra = 0;   // n - p
  int index = -1;  // this rank's among the p; -1: it hands over
  int rank_of(int index) const;

  // What a working rank has to contribute: its input, or, in its output, that
  // combined with its partner's. Null: this rank has handed over.
  const std::byte* fold(const Operands& operands, Transport& transport) const;
  // Gives the output of the working ranks to those that have handed over.
  void unfold(void* output, std::size_t bytes, Transport& transport) const;
};

}  // namespace dai::hardware
