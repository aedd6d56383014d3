// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/runner/paged_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/zero.h>

#include <optional>

namespace dai::paged {

PagedKv::PagedKv(const intro::DecoderConfig& config, std::int64_t blocks,
                 std::int64_t block_size, at::ScalarType dtype,
                 at::Device device)
    : blocks_(blocks), block_size_(block_size), device_(device) {
  const auto memory = [&] {
    // Written once, so that the memory is there before the first request and
    // no step waits for a page.
    return at::empty({blocks * block_size, config.kv_heads, config.head_dim()},
                     at::TensorOptions(dtype).device(device))
        .zero_();
  };
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    layers_.push_back({memory(), memory()});
  }
}

std::int64_t PagedKv::bytes() const {
  std::int64_t bytes = 0;
  for (const Layer& layer : layers_) {
    bytes +=
        static_cast<std::int64_t>(layer.keys.nbytes() + layer.values.nbytes());
  }
  return bytes;
}

std::int64_t PagedKv::bytes_per_token(const intro::DecoderConfig& config,
                                      at::ScalarType dtype) {
  return config.layers * 2 * config.kv_heads * config.head_dim() *
         static_cast<std::int64_t>(c10::elementSize(dtype));
}

void PagedKv::begin_step(const StepPlan& plan) {
  for (const BlockCopy& copy : plan.copies) {
    for (const Layer& layer : layers_) {
      for (const at::Tensor& memory : {layer.keys, layer.values}) {
        memory.narrow(0, copy.to * block_size_, block_size_)
            .copy_(memory.narrow(0, copy.from * block_size_, block_size_));
      }
    }
  }
  rows_.clear();
  std::vector<at::Tensor> fresh;
  for (const PlanRow& row : plan.rows) {
    // Slots of the whole context, block by block, then cut to its length.
    const at::Tensor table =
        at::from_blob(
            const_cast<BlockId*>(plan.block_tables.data()) + row.table,
            {row.blocks}, at::kInt)
            .to(at::kLong);
    const at::Tensor slots =
        (table.unsqueeze(1) * block_size_ + at::arange(block_size_, at::kLong))
            .flatten()
            .narrow(0, 0, row.context())
            .to(device_);
    rows_.push_back({row.first, row.count, row.position, slots});
    fresh.push_back(slots.narrow(0, row.position, row.count));
  }
  new_slots_ = at::cat(fresh);
}

class PagedAttention : public intro::AttentionCore {
 public:
  PagedAttention(const PagedKv& kv, std::size_t layer)
      : kv_(kv), layer_(layer) {}

  // Everything of the step is written before anything is read: a row may share
  // blocks that a row before it fills.
  at::Tensor forward(const at::Tensor& q, const at::Tensor& k,
                     const at::Tensor& v) override {
    const auto& [keys, values] = kv_.layers_[layer_];
    keys.index_copy_(0, kv_.new_slots_, k[0].to(keys.scalar_type()));
    values.index_copy_(0, kv_.new_slots_, v[0].to(values.scalar_type()));
    std::vector<at::Tensor> outputs;
    for (const PagedKv::Row& row : kv_.rows_) {
      const auto past = [&](const at::Tensor& memory) {
        return memory.index_select(0, row.slots)
            .to(q.scalar_type())
            .transpose(0, 1)
            .unsqueeze(0);  // [1, kv_heads, context, head_dim]
      };
      // Query i stands at position + i. One query sees all; a prompt from its
      // beginning is causal; a chunk of it needs a mask of its own.
      std::optional<at::Tensor> mask;
      if (row.count > 1 && row.position > 0) {
        mask = at::ones({row.count, row.position + row.count},
                        q.options().dtype(at::kBool))
                   .tril(row.position);
      }
      outputs.push_back(at::scaled_dot_product_attention(
                            q.narrow(1, row.first, row.count).transpose(1, 2),
                            past(keys), past(values), mask, /*dropout_p=*/0,
                            /*is_causal=*/row.count > 1 && row.position == 0,
                            /*scale=*/{},
                            /*enable_gqa=*/q.size(2) != k.size(2))
                            .transpose(1, 2)
                            .flatten(2));
    }
    return at::cat(outputs, 1);
  }

 private:
  const PagedKv& kv_;
  std::size_t layer_;
};

std::unique_ptr<intro::AttentionCore> PagedParts::attention_core(
    std::int64_t layer) {
  return std::make_unique<PagedAttention>(kv_, static_cast<std::size_t>(layer));
}

}  // namespace dai::paged
