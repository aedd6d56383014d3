// SPDX-License-Identifier: Apache-2.0
#pragma once

// All algorithms by name, for tests that try each of them, for the apps'
// --algorithm and for the selector.
//
//   for (const Algorithm& algorithm : algorithms()) {
//     if (algorithm.collective == what && algorithm.runs_on(bytes, transport))
//     {
//       algorithm.run(operands, transport);
//     }
//   }

#include <cstddef>
#include <span>
#include <string>

#include "ch02_hardware/collectives/operands.h"

namespace dai::hardware {

enum class Needs {
  kNothing,
  kSlots,   // Transport::window(), and the data fits a slot
  kMemory,  // Transport::window()->reaches_memory()
};

struct Algorithm {
  Collective collective;
  const char* name;  // "ring"; unique within its collective
  void (*run)(const Operands& operands, Transport& transport);
  bool naive = false;  // there to be read and compared with
  Needs needs = Needs::kNothing;

  bool runs_on(std::size_t bytes, Transport& transport) const;
};

std::span<const Algorithm> algorithms();
// Throws UsageError naming those that there are.
const Algorithm& algorithm_by_name(Collective collective,
                                   const std::string& name);

}  // namespace dai::hardware
