// SPDX-License-Identifier: Apache-2.0
#pragma once

// What computes a step: the engine knows no tensors, a runner no requests.
//
// A runner owns the blocks' bytes. It must
//   - copy plan.copies, in their order, before anything else;
//   - of each layer write the keys and values of all tokens of the step before
//     it reads any: a row may share blocks that a row before it fills;
//   - let token i of a row see positions 0 .. row.position + i of its table.
//
//   class MyRunner : public ModelRunner { ... };
//   Engine engine(options, runner, &tokenizer);

#include <cstdint>
#include <span>

#include "ch06_paged_inference/engine/step_plan.h"

namespace dai::paged {

class ModelRunner {
 public:
  virtual ~ModelRunner() = default;

  virtual std::int64_t vocab_size() const = 0;
  // The longest sequence that it can compute, in tokens.
  virtual std::int64_t max_positions() const = 0;
  virtual std::int64_t kv_blocks() const = 0;
  virtual std::int64_t block_size() const = 0;

  // logits [plan.draws(), vocab_size], in the order of the rows that draw.
  // Called by one thread at a time, not always the same. What it throws ends
  // the requests of the step, no others.
  virtual void run(const StepPlan& plan, std::span<float> logits) = 0;
};

}  // namespace dai::paged
