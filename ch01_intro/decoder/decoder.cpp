// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/decoder/decoder.h"

#include <ATen/record_function.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

#include "common/errors.h"

namespace dai::intro {
namespace {

NamedParameter named(DecoderParts& parts, const std::string& name) {
  return {name, parts.parameter(name)};
}

void check_tokens(const at::Tensor& tokens, std::int64_t first,
                  std::int64_t max_positions) {
  if (tokens.dim() != 2 || tokens.scalar_type() != at::kLong) {
    throw UsageError(fmt::format(
        "tokens are {} [{}], [batch, seq] of int64 is expected",
        c10::toString(tokens.scalar_type()), fmt::join(tokens.sizes(), ", ")));
  }
  if (first < 0 || first + tokens.size(1) > max_positions) {
    throw UsageError(fmt::format(
        "positions {} to {}: the decoder has {}, 0 to {}", first,
        first + tokens.size(1) - 1, max_positions, max_positions - 1));
  }
}

}  // namespace

DecoderBlock::DecoderBlock(DecoderParts& parts, std::int64_t layer)
    : ops_(parts.ops()),
      name_(fmt::format("layers.{}", layer)),
      norm_eps_(parts.config().norm_eps),
      head_dim_(parts.config().head_dim()) {
  const DecoderConfig& config = parts.config();
  const std::string at = fmt::format("model.layers.{}.", layer);
  const std::int64_t kv = config.kv_heads * head_dim_;
  const auto linear = [&](const char* name, std::int64_t in, std::int64_t out) {
    return parts.linear(at + "self_attn." + name + ".weight", in, out);
  };
  input_norm_ = named(parts, at + "input_layernorm.weight");
  q_proj_ = linear("q_proj", config.hidden, config.hidden);
  k_proj_ = linear("k_proj", config.hidden, kv);
  v_proj_ = linear("v_proj", config.hidden, kv);
  o_proj_ = linear("o_proj", config.hidden, config.hidden);
  core_ = parts.attention_core(layer);
  post_attention_norm_ = named(parts, at + "post_attention_layernorm.weight");
  feed_forward_ = parts.feed_forward(layer);
}

at::Tensor DecoderBlock::attention(const at::Tensor& x,
                                   const RopeTable& table) const {
  RECORD_USER_SCOPE(name_ + ".attention");
  const at::Tensor in = ops_.rms_norm(x, input_norm_.tensor, norm_eps_);
  // How many heads there are is for the projections to say: a rank may hold
  // some of them only.
  const auto heads = [&](const std::unique_ptr<Linear>& projection) {
    return projection->forward(in).unflatten(-1, {-1, head_dim_});
  };
  const at::Tensor q = ops_.rope(heads(q_proj_), table);
  const at::Tensor k = ops_.rope(heads(k_proj_), table);
  return o_proj_->forward(core_->forward(q, k, heads(v_proj_)));
}

at::Tensor DecoderBlock::forward(const at::Tensor& x,
                                 const RopeTable& table) const {
  const at::Tensor middle = x + attention(x, table);
  RECORD_USER_SCOPE(name_ + ".feed_forward");
  return middle + feed_forward_->forward(ops_.rms_norm(
                      middle, post_attention_norm_.tensor, norm_eps_));
}

void DecoderBlock::add_parameters(std::vector<NamedParameter>& list) const {
  list.push_back(input_norm_);
  for (const auto* projection : {&q_proj_, &k_proj_, &v_proj_, &o_proj_}) {
    (*projection)->add_parameters(list);
  }
  core_->add_parameters(list);
  list.push_back(post_attention_norm_);
  feed_forward_->add_parameters(list);
}

Decoder::Decoder(DecoderParts& parts)
    : config_(parts.config()),
      ops_(parts.ops()),
      table_(parts.rope_table()),
      embedding_(parts.embedding()) {
  for (std::int64_t layer = 0; layer < config_.layers; ++layer) {
    blocks_.push_back({std::make_unique<DecoderBlock>(parts, layer),
                       parts.block_wrapper(layer)});
  }
  norm_ = named(parts, "model.norm.weight");
  head_ = parts.output_head(*embedding_);
  embedding_->add_parameters(parameters_);
  for (const WrappedBlock& wrapped : blocks_) {
    wrapped.block->add_parameters(parameters_);
  }
  parameters_.push_back(norm_);
  head_->add_parameters(parameters_);
}

at::Tensor Decoder::hidden_states(const at::Tensor& tokens,
                                  std::int64_t first_position) const {
  check_tokens(tokens, first_position, config_.max_positions);
  return run(tokens, {table_.cos.narrow(0, first_position, tokens.size(1)),
                      table_.sin.narrow(0, first_position, tokens.size(1))});
}

at::Tensor Decoder::hidden_states_at(const at::Tensor& tokens,
                                     const at::Tensor& positions) const {
  check_tokens(tokens, 0, tokens.size(tokens.dim() - 1));
  if (positions.dim() != 1 || positions.scalar_type() != at::kLong ||
      positions.size(0) != tokens.size(1)) {
    throw UsageError(fmt::format(
        "positions are {} [{}], int64 [{}] like the tokens is expected",
        c10::toString(positions.scalar_type()),
        fmt::join(positions.sizes(), ", "), tokens.size(1)));
  }
  return run(tokens, {table_.cos.index_select(0, positions),
                      table_.sin.index_select(0, positions)});
}

at::Tensor Decoder::project(const at::Tensor& hidden) const {
  RECORD_USER_SCOPE("head");
  return head_->logits(hidden);
}

at::Tensor Decoder::run(const at::Tensor& tokens,
                        const RopeTable& table) const {
  at::Tensor x;
  {
    RECORD_USER_SCOPE("embed");
    x = embedding_->forward(tokens);
  }
  for (const WrappedBlock& wrapped : blocks_) {
    const DecoderBlock* block = wrapped.block.get();
    x = wrapped.wrapper->forward(
        [block, table](const at::Tensor& in) {
          return block->forward(in, table);
        },
        x);
  }
  RECORD_USER_SCOPE("head");
  return ops_.rms_norm(x, norm_.tensor, config_.norm_eps);
}

at::Tensor Decoder::logits(const at::Tensor& tokens,
                           std::int64_t first_position) const {
  return project(hidden_states(tokens, first_position));
}

at::Tensor Decoder::loss(const at::Tensor& tokens,
                         const at::Tensor& targets) const {
  if (targets.sizes() != tokens.sizes() || targets.scalar_type() != at::kLong) {
    throw UsageError(fmt::format(
        "targets are {} [{}], int64 [{}] like the tokens is expected",
        c10::toString(targets.scalar_type()), fmt::join(targets.sizes(), ", "),
        fmt::join(tokens.sizes(), ", ")));
  }
  const at::Tensor hidden = hidden_states(tokens);
  RECORD_USER_SCOPE("head");
  return head_->token_loss(hidden.flatten(0, 1), targets.flatten());
}

}  // namespace dai::intro
