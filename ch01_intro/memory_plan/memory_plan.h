// SPDX-License-Identifier: Apache-2.0
#pragma once

// The bytes of a training step, from the configuration alone: no tensor
// library, no run, nothing fitted. A plan is a list of lines, each saying which
// operation holds what shape and why, so that a prediction that is off can be
// argued with line by line.
//
//   MemoryPlan plan = plan_memory({.config = decoder_config("nano-1m"),
//                                  .batch = 2, .seq = 128});
//   plan.total(MemoryCategory::kActivations);
//   plan.peak().bytes;                           // in plan.peak().phase
//
// What it promises for this repository's decoder and trainer on the CPU, in
// float32 and under bfloat16 autocast, ch01_memory_ledger checks: parameters,
// gradients, optimizer and buffers to the byte, activations within 2 %, each
// phase's peak within 5 % (a kernel may want scratch of the machine's
// choosing). Views count with the tensor that they look at, once. For sizes
// that do not fit here: scale_plan.h.

#include <cstdint>
#include <string>
#include <vector>

#include "ch01_intro/decoder/decoder_config.h"
#include "ch01_intro/memory/allocation_log.h"

namespace dai::intro {

enum class Rung { kNaive, kFused };              // of the decoder's operations
Rung rung_from_string(const std::string& name);  // UsageError
const char* to_string(Rung rung);

struct PlanSetup {
  DecoderConfig config;
  std::int64_t batch = 1;  // sequences of a microbatch
  std::int64_t seq = 128;  // tokens of each
  Rung rung = Rung::kNaive;
  bool bf16 = false;  // autocast: products in bfloat16, states in float32

  std::int64_t tokens() const { return batch * seq; }
  // Throws UsageError: sizes below 1, more tokens than positions,
  // or a step of more than 2^62 bytes.
  void check() const;
};

struct PlanLine {
  MemoryCategory category{};
  std::string module;  // "block", "head", ...
  std::string what;    // "norm: x / rms, for the weight's gradient"
  std::string shape;   // "[256, 96] float32"
  std::int64_t bytes = 0;
  std::int64_t times = 1;  // in how many layers
};

// The largest moment of a phase, in a step that is not the first.
struct PlanPeak {
  std::string phase;  // forward, backward, sync, optimizer
  std::string where;  // "head: gradients of the logits"
  std::int64_t bytes = 0;
};

struct MemoryPlan {
  std::vector<PlanLine> lines;
  std::vector<PlanPeak> peaks;  // one a phase, in the order of a step

  std::int64_t total(MemoryCategory category) const;
  std::int64_t states() const;   // parameters, gradients, optimizer, buffers
  const PlanPeak& peak() const;  // the largest
};

MemoryPlan plan_memory(const PlanSetup& setup);

}  // namespace dai::intro
