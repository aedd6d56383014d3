// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a plan is good for before a run: a step that this machine cannot hold
// is refused in one line, instead of being ended by the kernel half-way.
//
//   check_fits({.config = config, .batch = 8, .seq = 128},
//   free_memory_bytes());
//
// On the CPU; a GPU's allocator refuses by itself.

#include <cstdint>
#include <filesystem>

#include "ch01_intro/memory_plan/memory_plan.h"

namespace dai::intro {

// What the kernel could give out without swapping (MemAvailable), or what is
// left of the control group's limit where that is less.
std::int64_t free_memory_bytes(const std::filesystem::path& root = "/");

// Throws UsageError when the plan's peak is above `free_bytes`: sizes, what is
// needed and what is there.
void check_fits(const PlanSetup& setup, std::int64_t free_bytes);

}  // namespace dai::intro
