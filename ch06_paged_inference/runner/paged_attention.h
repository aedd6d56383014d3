// SPDX-License-Identifier: Apache-2.0
#pragma once

// Attention over keys and values that lie in blocks (PagedAttention,
// arXiv:2309.06180), the naive form: gather the blocks of a sequence into one
// tensor, then attend as ever. What a kernel that reads the block table saves
// is that copy.
//
//   PagedKv kv(config, blocks, block_size, at::kFloat, device);
//   PagedParts parts(config, {.device = device}, kv);
//   Decoder decoder(parts);
//   kv.begin_step(plan);                       // where the step's tokens lie
//   decoder.hidden_states_at(tokens, positions);
//
// Without gradients only.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "ch01_intro/decoder/decoder_parts.h"
#include "ch06_paged_inference/engine/step_plan.h"

namespace dai::paged {

class PagedKv {
 public:
  // dtype: float32 or bfloat16.
  PagedKv(const intro::DecoderConfig& config, std::int64_t blocks,
          std::int64_t block_size, at::ScalarType dtype, at::Device device);

  std::int64_t blocks() const { return blocks_; }
  std::int64_t block_size() const { return block_size_; }
  std::int64_t bytes() const;
  // Of all layers, keys and values.
  static std::int64_t bytes_per_token(const intro::DecoderConfig& config,
                                      at::ScalarType dtype);

  // Carries out the plan's copies and notes where its tokens lie.
  void begin_step(const StepPlan& plan);

 private:
  friend class PagedAttention;
  struct Row {
    std::int64_t first, count, position;
    at::Tensor slots;  // [context] int64
  };
  struct Layer {
    at::Tensor keys, values;  // [blocks * block_size, kv_heads, head_dim]
  };
  std::int64_t blocks_, block_size_;
  at::Device device_;
  std::vector<Layer> layers_;
  std::vector<Row> rows_;
  at::Tensor new_slots_;  // [tokens of the step] int64
};

// The usual parts, with attention that keeps its past in `kv`, which outlives
// them.
class PagedParts : public intro::DecoderParts {
 public:
  PagedParts(const intro::DecoderConfig& config,
             const intro::DecoderPartsOptions& options, PagedKv& kv)
      : DecoderParts(config, options), kv_(kv) {}
  std::unique_ptr<intro::AttentionCore> attention_core(
      std::int64_t layer) override;

 private:
  PagedKv& kv_;
};

}  // namespace dai::paged
