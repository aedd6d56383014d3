// SPDX-License-Identifier: Apache-2.0
#pragma once

// Generation without computing the past again: each layer keeps the keys and
// values of all tokens so far, and a new token costs the work of one token.
// The plain form, one contiguous block a layer of as many positions as the
// batch may ever need; chapter 6 cuts it into pages.
//
//   KvCache cache(config, /*batch=*/4, /*positions=*/256, device);
//   CachedParts parts(config, {.device = device}, cache);
//   Decoder decoder(parts);
//   decoder.logits(prompt);                        // fills positions 0 ..
//   decoder.logits(next, cache.length());          // [4, 1], one more
//
// All sequences of a batch are equally long. Without gradients only: the cache
// is written in place. Errors: UsageError when positions run out,
// std::invalid_argument for a batch other than the cache's and for a call with
// gradients.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "ch01_intro/decoder/decoder_parts.h"

namespace dai::intro {

class KvCache {
 public:
  KvCache(const DecoderConfig& config, std::int64_t batch,
          std::int64_t positions, at::Device device);

  // Tokens that every layer has seen.
  std::int64_t length() const;
  std::int64_t bytes() const;
  void clear();

 private:
  friend class CachedAttention;
  struct Layer {
    at::Tensor keys, values;  // [batch, positions, kv_heads, head_dim]
    std::int64_t length = 0;
  };
  std::vector<Layer> layers_;
};

// The usual parts, with attention that reads and extends a cache. Keeps a
// reference to it.
class CachedParts : public DecoderParts {
 public:
  CachedParts(const DecoderConfig& config, const DecoderPartsOptions& options,
              KvCache& cache)
      : DecoderParts(config, options), cache_(cache) {}
  std::unique_ptr<AttentionCore> attention_core(std::int64_t layer) override;

 private:
  KvCache& cache_;
};

}  // namespace dai::intro
