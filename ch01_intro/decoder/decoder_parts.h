// SPDX-License-Identifier: Apache-2.0
#pragma once

// The parts that a decoder is made of, each behind a small interface, and the
// factory that makes them. Whoever needs another linear layer, another
// attention or something around each block derives from DecoderParts and
// overrides one function; the decoder itself stays as it is. That is how
// tensor parallelism, FSDP's units, pipeline stages and mixtures of experts
// of the later chapters come in.
//
//   struct LoraParts : DecoderParts {
//     using DecoderParts::DecoderParts;
//     std::unique_ptr<Linear> linear(const std::string& name, std::int64_t in,
//                                    std::int64_t out) override;
//   };
//   LoraParts parts(decoder_config("nano-1m"), {.seed = 1234});
//   Decoder decoder(parts);
//
// A part that is cut over ranks gives out less than it was asked for (half of
// the heads, say): parts read sizes from tensors, never from the config.

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ch01_intro/decoder/decoder_config.h"
#include "ch01_intro/decoder/decoder_ops.h"
#include "ch01_intro/named_parameter.h"

namespace dai::intro {

class DecoderPart {
 public:
  virtual ~DecoderPart() = default;
  // Appends this part's leaves, in the order in which forward meets them.
  virtual void add_parameters(std::vector<NamedParameter>& /*list*/) const {}
};

// [..., in] -> [..., out], without a bias.
class Linear : public DecoderPart {
 public:
  virtual at::Tensor forward(const at::Tensor& x) const = 0;
};

// Token ids [batch, seq] int64 -> [batch, seq, hidden].
class Embedding : public DecoderPart {
 public:
  virtual at::Tensor forward(const at::Tensor& tokens) const = 0;
};

// Scores and their softmax over the past, the part with no weights.
// q [batch, seq, heads, head_dim], k and v [batch, seq, kv_heads, head_dim],
// rotated already -> [batch, seq, heads * head_dim]. Causal. A core that keeps
// k and v between calls serves generation.
class AttentionCore : public DecoderPart {
 public:
  virtual at::Tensor forward(const at::Tensor& q, const at::Tensor& k,
                             const at::Tensor& v) = 0;
};

// [batch, seq, hidden] -> the same.
class FeedForward : public DecoderPart {
 public:
  virtual at::Tensor forward(const at::Tensor& x) const = 0;
};

// From the last hidden states to logits or straight to the loss.
class OutputHead : public DecoderPart {
 public:
  // [..., hidden] -> [..., vocab]
  virtual at::Tensor logits(const at::Tensor& hidden) const = 0;
  // As DecoderOps::token_loss: [tokens, hidden], [tokens] -> scalar, a sum.
  virtual at::Tensor token_loss(const at::Tensor& hidden,
                                const at::Tensor& targets) const = 0;
};

// What stands around a block. `block` is a pure function of x (and of the
// weights): forward may call it now, or keep nothing but x and call it again
// in backward. That is the activation cut.
class BlockWrapper {
 public:
  using Block = std::function<at::Tensor(const at::Tensor&)>;

  virtual ~BlockWrapper() = default;
  virtual at::Tensor forward(const Block& block, const at::Tensor& x) {
    return block(x);
  }
};

// Calls back before and after a block's forward, and before and after its
// backward: FSDP gathers weights in the "before" and drops them in the
// "after". before_backward comes when the gradient of the block's output is
// there, after_backward when that of its input is (the block's own weights
// then have theirs, unless they are shared with other blocks).
class HookedBlock : public BlockWrapper {
 public:
  at::Tensor forward(const Block& block, const at::Tensor& x) override;

 protected:
  virtual void before_forward() {}
  virtual void after_forward() {}
  virtual void before_backward() {}
  virtual void after_backward() {}
};

struct DecoderPartsOptions {
  std::uint64_t seed = 1234;  // of the weights: initialization.h
  at::Device device = at::kCPU;
  const DecoderOps* ops = &fused_ops();
};

class DecoderParts {
 public:
  // Checks the config. On the meta device parts have shapes and no bytes: a
  // 405B decoder can be built and asked for its parameters.
  explicit DecoderParts(const DecoderConfig& config,
                        const DecoderPartsOptions& options = {});
  virtual ~DecoderParts() = default;

  const DecoderConfig& config() const { return config_; }
  const DecoderPartsOptions& options() const { return options_; }
  const DecoderOps& ops() const { return *options_.ops; }

  // `name` is the weight's: "model.layers.0.self_attn.q_proj.weight".
  virtual std::unique_ptr<Linear> linear(const std::string& name,
                                         std::int64_t in, std::int64_t out);
  virtual std::unique_ptr<Embedding> embedding();
  // Tied to `embedding` when the config says so; it stays valid as long as
  // the head.
  virtual std::unique_ptr<OutputHead> output_head(const Embedding& embedding);
  virtual std::unique_ptr<AttentionCore> attention_core(std::int64_t layer);
  // SwiGLU of three linear() by default.
  virtual std::unique_ptr<FeedForward> feed_forward(std::int64_t layer);
  virtual std::unique_ptr<BlockWrapper> block_wrapper(std::int64_t layer);

  // A leaf with its initial values: all of the named parameter. Whoever has
  // other values (a trained model's) overrides this.
  virtual at::Tensor parameter(const std::string& name) const;
  // [max_positions, head_dim / 2], by the config's theta.
  virtual RopeTable rope_table() const;

 private:
  DecoderConfig config_;
  DecoderPartsOptions options_;
};

// The core that spells attention out: scores, mask, softmax, sum. It stands
// beside the default, which calls PyTorch's fused kernel.
std::unique_ptr<AttentionCore> naive_attention_core();

}  // namespace dai::intro
