// SPDX-License-Identifier: Apache-2.0
#pragma once

// Training steps of the real trainer on a real decoder, with every byte
// watched: what a plan (ch01_intro/memory_plan/memory_plan.h) is measured
// against. The tokens are drawn from the seed, since only their number matters
// here.
//
//   MeasuredStep step = measure_steps(setup, /*steps=*/3, 1234, at::kCPU);
//   step.states[MemoryCategory::kOptimizer];
//   step.activations;                            // at the end of forward
//
// On the CPU the memory ledger sees each allocation, so the categories, the
// phases and the timeline are complete. On CUDA the caching allocator's
// counters are read where the trainer changes its phase: bytes that were asked
// for, before rounding, without a timeline; `unexplained` is then what
// the libraries keep for themselves (workspaces). Never executed so far.
//
// One measurement at a time: it owns the process's ledger.
// Errors: UsageError for a sequence that the decoder has no positions for.

#include <c10/core/Device.h>

#include <cstdint>
#include <string>
#include <vector>

#include "ch01_intro/memory/allocation_log.h"
#include "ch01_intro/memory_plan/memory_plan.h"

namespace dai::intro {

struct MeasuredStep {
  struct Phase {
    std::string name;  // forward, backward, sync, optimizer
    std::int64_t end_bytes = 0;
    std::int64_t peak_bytes = 0;
  };
  // Parameters, gradients, optimizer and buffers after the last step.
  MemoryBytes states;
  // Alive at the end of the last step's forward because backward needs them.
  std::int64_t activations = 0;
  std::vector<Phase> phases;             // of the last step
  std::vector<std::int64_t> after_step;  // live bytes
  // The allocator's own count after the last step, minus `states`.
  std::int64_t unexplained = 0;
  MemoryReport report;  // of all steps; empty on CUDA

  const Phase& peak() const;
};

// `steps` of them, at least 2: the first step has no old gradients to free.
MeasuredStep measure_steps(const PlanSetup& setup, std::int64_t steps,
                           std::uint64_t seed, at::Device device);

// What the ledger sees of a KV cache in float32, as the generating decoder of
// ch01_intro/workloads/kv_cache.h allocates it.
std::int64_t measure_kv_cache(const DecoderConfig& config, std::int64_t batch,
                              std::int64_t positions);

}  // namespace dai::intro
