// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/decoder/decoder_parts.h"

#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/triu.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>

#include "ch01_intro/decoder/initialization.h"

namespace dai::intro {
namespace {

std::string layer_name(std::int64_t layer, const char* rest) {
  return fmt::format("model.layers.{}.{}", layer, rest);
}

class PlainLinear : public Linear {
 public:
  PlainLinear(NamedParameter weight, const DecoderOps& ops)
      : weight_(std::move(weight)), ops_(ops) {}

  at::Tensor forward(const at::Tensor& x) const override {
    return ops_.linear(x, weight_.tensor);
  }
  void add_parameters(std::vector<NamedParameter>& list) const override {
    list.push_back(weight_);
  }

 private:
  NamedParameter weight_;  // [out, in]
  const DecoderOps& ops_;
};

class PlainEmbedding : public Embedding {
 public:
  explicit PlainEmbedding(NamedParameter table) : table_(std::move(table)) {}

  at::Tensor forward(const at::Tensor& tokens) const override {
    return at::embedding(table_.tensor, tokens);
  }
  void add_parameters(std::vector<NamedParameter>& list) const override {
    list.push_back(table_);
  }

 private:
  NamedParameter table_;  // [vocab, hidden]
};

// Of the whole vocabulary. A tied one reports no parameter of its own: the
// embedding has reported it already.
class PlainHead : public OutputHead {
 public:
  PlainHead(NamedParameter weight, bool tied, const DecoderOps& ops)
      : weight_(std::move(weight)), tied_(tied), ops_(ops) {}

  at::Tensor logits(const at::Tensor& hidden) const override {
    return ops_.linear(hidden, weight_.tensor);
  }
  at::Tensor token_loss(const at::Tensor& hidden,
                        const at::Tensor& targets) const override {
    return ops_.token_loss(hidden, weight_.tensor, targets);
  }
  void add_parameters(std::vector<NamedParameter>& list) const override {
    if (!tied_) list.push_back(weight_);
  }

 private:
  NamedParameter weight_;  // [vocab, hidden]
  bool tied_;
  const DecoderOps& ops_;
};

// PyTorch's kernels want [batch, heads, seq, head_dim], whatever the strides.
class FlashAttentionCore : public AttentionCore {
 public:
  at::Tensor forward(const at::Tensor& q, const at::Tensor& k,
                     const at::Tensor& v) override {
    return at::scaled_dot_product_attention(
               q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2),
               /*attn_mask=*/{}, /*dropout_p=*/0, /*is_causal=*/true,
               /*scale=*/{}, /*enable_gqa=*/q.size(2) != k.size(2))
        .transpose(1, 2)
        .flatten(2);
  }
};

class NaiveAttentionCore : public AttentionCore {
 public:
  at::Tensor forward(const at::Tensor& q, const at::Tensor& k,
                     const at::Tensor& v) override {
    // Each KV head serves a group of neighbouring query heads.
    const std::int64_t group = q.size(2) / k.size(2);
    const at::Tensor keys = k.repeat_interleave(group, 2).transpose(1, 2);
    const at::Tensor values = v.repeat_interleave(group, 2).transpose(1, 2);
    const double scale = 1 / std::sqrt(static_cast<double>(q.size(3)));
    const at::Tensor scores =
        at::matmul(q.transpose(1, 2), keys.transpose(2, 3)) * scale;
    const at::Tensor future =
        at::ones({q.size(1), k.size(1)}, q.options().dtype(at::kBool))
            .triu(/*diagonal=*/1);
    const at::Tensor weights = at::softmax(
        scores.masked_fill(future, -std::numeric_limits<float>::infinity()),
        -1);
    return at::matmul(weights, values).transpose(1, 2).flatten(2);
  }
};

class SwigluFeedForward : public FeedForward {
 public:
  SwigluFeedForward(DecoderParts& parts, std::int64_t layer)
      : ops_(parts.ops()) {
    const std::int64_t hidden = parts.config().hidden;
    const std::int64_t ffn = parts.config().ffn;
    gate_ =
        parts.linear(layer_name(layer, "mlp.gate_proj.weight"), hidden, ffn);
    up_ = parts.linear(layer_name(layer, "mlp.up_proj.weight"), hidden, ffn);
    down_ =
        parts.linear(layer_name(layer, "mlp.down_proj.weight"), ffn, hidden);
  }
  at::Tensor forward(const at::Tensor& x) const override {
    return down_->forward(ops_.swiglu(gate_->forward(x), up_->forward(x)));
  }
  void add_parameters(std::vector<NamedParameter>& list) const override {
    for (const auto* part : {&gate_, &up_, &down_}) {
      (*part)->add_parameters(list);
    }
  }

 private:
  const DecoderOps& ops_;
  std::unique_ptr<Linear> gate_, up_, down_;
};

}  // namespace

at::Tensor HookedBlock::forward(const Block& block, const at::Tensor& x) {
  // A view of x, so that the hook hears of x's gradient from this block alone
  // and not from the residual stream's other users.
  at::Tensor in = x;
  if (x.requires_grad()) {
    in = x.view_as(x);
    in.register_hook([this](const at::Tensor&) { after_backward(); });
  }
  before_forward();
  const at::Tensor out = block(in);
  after_forward();
  if (out.requires_grad()) {
    out.register_hook([this](const at::Tensor&) { before_backward(); });
  }
  return out;
}

DecoderParts::DecoderParts(const DecoderConfig& config,
                           const DecoderPartsOptions& options)
    : config_((config.check(), config)), options_(options) {
  if (options_.ops == nullptr) {
    throw std::invalid_argument("DecoderParts: no operations");
  }
}

at::Tensor DecoderParts::parameter(const std::string& name) const {
  const auto shapes = config_.parameters();
  const auto shape =
      std::find_if(shapes.begin(), shapes.end(),
                   [&](const ParameterShape& p) { return p.name == name; });
  if (shape == shapes.end()) {
    throw std::invalid_argument(
        fmt::format("decoder {} has no parameter {}", config_.name, name));
  }
  at::Tensor tensor;
  if (options_.device.is_meta()) {
    tensor = at::empty(shape->shape, at::TensorOptions(options_.device));
  } else {
    tensor = at::empty(shape->shape, at::kFloat);
    fill_initial(
        config_, name, options_.seed, 0,
        {tensor.data_ptr<float>(), static_cast<std::size_t>(tensor.numel())});
    tensor = tensor.to(options_.device);
  }
  return tensor.requires_grad_();
}

RopeTable DecoderParts::rope_table() const {
  return intro::rope_table(config_.max_positions, config_.head_dim(),
                           config_.rope_theta, options_.device);
}

std::unique_ptr<Linear> DecoderParts::linear(const std::string& name,
                                             std::int64_t in,
                                             std::int64_t out) {
  const at::Tensor weight = parameter(name);
  if (weight.size(0) != out || weight.size(1) != in) {
    throw std::invalid_argument(
        fmt::format("{} is [{}, {}], [{}, {}] was asked for", name,
                    weight.size(0), weight.size(1), out, in));
  }
  return std::make_unique<PlainLinear>(NamedParameter{name, weight}, ops());
}

std::unique_ptr<Embedding> DecoderParts::embedding() {
  const std::string name = "model.embed_tokens.weight";
  return std::make_unique<PlainEmbedding>(
      NamedParameter{name, parameter(name)});
}

std::unique_ptr<OutputHead> DecoderParts::output_head(
    const Embedding& embedding) {
  if (!config_.tied_embeddings) {
    const std::string name = "lm_head.weight";
    return std::make_unique<PlainHead>(NamedParameter{name, parameter(name)},
                                       false, ops());
  }
  std::vector<NamedParameter> table;
  embedding.add_parameters(table);
  return std::make_unique<PlainHead>(table.at(0), true, ops());
}

std::unique_ptr<AttentionCore> DecoderParts::attention_core(std::int64_t) {
  return std::make_unique<FlashAttentionCore>();
}

std::unique_ptr<FeedForward> DecoderParts::feed_forward(std::int64_t layer) {
  return std::make_unique<SwigluFeedForward>(*this, layer);
}

std::unique_ptr<BlockWrapper> DecoderParts::block_wrapper(std::int64_t) {
  return std::make_unique<BlockWrapper>();
}

std::unique_ptr<AttentionCore> naive_attention_core() {
  return std::make_unique<NaiveAttentionCore>();
}

}  // namespace dai::intro
