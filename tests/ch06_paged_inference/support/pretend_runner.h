// SPDX-License-Identifier: Apache-2.0
#pragma once

// A model runner without a model: what it "computes" is a hash of the whole
// context as it finds it in the blocks, slot by slot, so that a block given to
// the wrong sequence, written too early, copied too late or freed too soon
// changes the logits. And the same thing without an engine, written plainly,
// to compare with.

#include <cstdint>
#include <functional>
#include <span>
#include <stdexcept>
#include <vector>

#include "ch06_paged_inference/engine/model_runner.h"
#include "ch06_paged_inference/engine/request.h"

namespace dai::paged {

class PretendRunner : public ModelRunner {
 public:
  PretendRunner(std::int64_t blocks, std::int64_t block_size,
                std::int64_t vocab = 40, std::int64_t positions = 4096)
      : blocks_(blocks),
        block_size_(block_size),
        vocab_(vocab),
        positions_(positions),
        slots_(static_cast<std::size_t>(blocks * block_size), kNothing) {}

  std::int64_t vocab_size() const override { return vocab_; }
  std::int64_t max_positions() const override { return positions_; }
  std::int64_t kv_blocks() const override { return blocks_; }
  std::int64_t block_size() const override { return block_size_; }
  void run(const StepPlan& plan, std::span<float> logits) override;

  // Called at the beginning of each step; may throw.
  std::function<void(const StepPlan&)> before;

  // [vocab], of the token that follows these.
  static std::vector<float> logits_after(std::span<const std::int32_t> tokens,
                                         std::int64_t vocab);

 private:
  static constexpr std::int32_t kNothing = -7;
  std::int32_t& slot(const StepPlan& plan, const PlanRow& row,
                     std::int64_t position);

  std::int64_t blocks_, block_size_, vocab_, positions_;
  std::vector<std::int32_t> slots_;  // [block, position in it]: the token
};

// Answer `index` to the request, token by token from the whole context.
std::vector<std::int32_t> reference_answer(
    const Request& request, std::int64_t number, std::int64_t index,
    std::int64_t vocab, std::int64_t limit,
    const std::vector<std::int32_t>& end_ids, std::uint64_t engine_seed = 1234);

}  // namespace dai::paged
