// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/workloads/kv_cache.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <fmt/format.h>

#include <stdexcept>

#include "common/errors.h"

namespace dai::intro {

KvCache::KvCache(const DecoderConfig& config, std::int64_t batch,
                 std::int64_t positions, at::Device device) {
  const auto block = [&] {
    return at::empty({batch, positions, config.kv_heads, config.head_dim()},
                     at::TensorOptions(at::kFloat).device(device));
  };
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    layers_.push_back({block(), block()});
  }
}

// Between two calls of the decoder all layers are equally long.
std::int64_t KvCache::length() const {
  return layers_.back().length;
}

std::int64_t KvCache::bytes() const {
  std::int64_t bytes = 0;
  for (const Layer& layer : layers_) {
    bytes +=
        static_cast<std::int64_t>(layer.keys.nbytes() + layer.values.nbytes());
  }
  return bytes;
}

void KvCache::clear() {
  for (Layer& layer : layers_) layer.length = 0;
}

class CachedAttention : public AttentionCore {
 public:
  explicit CachedAttention(KvCache::Layer& layer) : layer_(layer) {}

  at::Tensor forward(const at::Tensor& q, const at::Tensor& k,
                     const at::Tensor& v) override {
    extend(k, v);
    const std::int64_t fresh = q.size(1), total = layer_.length;
    const auto past = [&](const at::Tensor& block) {
      return block.narrow(1, 0, total).transpose(1, 2);
    };
    // Row i of the new tokens stands at position total - fresh + i. One new
    // token sees everything, a prompt is causal; only what comes in between
    // needs a mask of its own.
    at::Tensor mask;
    if (fresh > 1 && fresh < total) {
      mask = at::ones({fresh, total}, q.options().dtype(at::kBool))
                 .tril(total - fresh);
    }
    return at::scaled_dot_product_attention(
               q.transpose(1, 2), past(layer_.keys), past(layer_.values), mask,
               /*dropout_p=*/0, /*is_causal=*/fresh == total && fresh > 1,
               /*scale=*/{}, /*enable_gqa=*/q.size(2) != k.size(2))
        .transpose(1, 2)
        .flatten(2);
  }

 private:
  void extend(const at::Tensor& k, const at::Tensor& v) {
    if (at::GradMode::is_enabled() && k.requires_grad()) {
      throw std::invalid_argument("KvCache: generation has no gradients");
    }
    if (k.size(0) != layer_.keys.size(0)) {
      throw std::invalid_argument(
          fmt::format("KvCache: a batch of {}, it was made for {}", k.size(0),
                      layer_.keys.size(0)));
    }
    const std::int64_t fresh = k.size(1), room = layer_.keys.size(1);
    if (layer_.length + fresh > room) {
      throw UsageError(
          fmt::format("the KV cache has {} positions, {} + {} "
                      "are needed",
                      room, layer_.length, fresh));
    }
    layer_.keys.narrow(1, layer_.length, fresh).copy_(k);
    layer_.values.narrow(1, layer_.length, fresh).copy_(v);
    layer_.length += fresh;
  }

  KvCache::Layer& layer_;
};

std::unique_ptr<AttentionCore> CachedParts::attention_core(std::int64_t layer) {
  return std::make_unique<CachedAttention>(
      cache_.layers_.at(static_cast<std::size_t>(layer)));
}

}  // namespace dai::intro
