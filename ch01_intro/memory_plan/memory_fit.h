// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a plan is good for before a run: a step that this machine cannot hold
// is refused in one line, instead of being ended by the kernel half-way.
//
//   check_fits({.config = config, .batch = 8, .seq = 128},
//              memory_available_bytes());  // common/control_group.h
//
// On the CPU; a GPU's allocator refuses by itself.

#include <cstdint>

#include "ch01_intro/memory_plan/memory_plan.h"

namespace dai::intro {

// Throws UsageError when the plan's peak is above `free_bytes`: sizes, what is
// needed and what is there. Below zero: unknown, nothing is refused.
void check_fits(const PlanSetup& setup, std::int64_t free_bytes);

}  // namespace dai::intro
