// SPDX-License-Identifier: Apache-2.0
#pragma once

// A Llama-style decoder built to be taken apart: embedding, blocks, norm and
// head, each made by a DecoderParts factory (decoder_parts.h).
//
//   DecoderParts parts(decoder_config("bench-9m"));
//   Decoder decoder(parts);
//   at::Tensor sum = decoder.loss(tokens, targets);   // over the tokens
//   (sum / tokens.numel()).backward();
//
//   block(x):  x = x + attention(norm(x))       x [batch, seq, hidden]
//              x = x + feed_forward(norm(x))
//
// Weights are float32 leaves with the names and shapes of Hugging Face's Llama
// checkpoints, in config.parameters()' order. Each module announces itself to
// profilers and ledgers as a user scope of PyTorch's RecordFunction: "embed",
// "layers.3.attention", "layers.3.feed_forward", "head".
// Errors: UsageError for tokens that are not [batch, seq] int64, for more
// positions than the config has, and for targets of another shape. A token id
// outside the vocabulary is refused by PyTorch on the CPU and ends the process
// on CUDA (a device-side assertion): TokenCorpus lets none through.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ch01_intro/decoder/decoder_parts.h"

namespace dai::intro {

class DecoderBlock {
 public:
  DecoderBlock(DecoderParts& parts, std::int64_t layer);

  // x [batch, seq, hidden]; the table has a row for each of the positions.
  at::Tensor forward(const at::Tensor& x, const RopeTable& table) const;
  void add_parameters(std::vector<NamedParameter>& list) const;

 private:
  at::Tensor attention(const at::Tensor& x, const RopeTable& table) const;

  const DecoderOps& ops_;
  std::string name_;  // "layers.3"
  double norm_eps_;
  std::int64_t head_dim_;
  NamedParameter input_norm_, post_attention_norm_;  // [hidden]
  std::unique_ptr<Linear> q_proj_, k_proj_, v_proj_, o_proj_;
  std::unique_ptr<AttentionCore> core_;
  std::unique_ptr<FeedForward> feed_forward_;
};

class Decoder {
 public:
  // Uses `parts` only during construction.
  explicit Decoder(DecoderParts& parts);

  // tokens [batch, seq] int64, which stand at the positions first_position,
  // first_position + 1, ... -> [batch, seq, hidden], behind the last norm.
  at::Tensor hidden_states(const at::Tensor& tokens,
                           std::int64_t first_position = 0) const;
  // The same for tokens that stand anywhere: positions [seq] int64, each below
  // config.max_positions. For a batch of one that is several sequences, one
  // behind the other, where the attention core keeps them apart.
  at::Tensor hidden_states_at(const at::Tensor& tokens,
                              const at::Tensor& positions) const;
  // [..., hidden], behind the last norm -> [..., vocab]
  at::Tensor project(const at::Tensor& hidden) const;
  // -> [batch, seq, vocab]
  at::Tensor logits(const at::Tensor& tokens,
                    std::int64_t first_position = 0) const;
  // The sum over all tokens of -log p(target), float32. targets like tokens,
  // -100 where none is asked.
  at::Tensor loss(const at::Tensor& tokens, const at::Tensor& targets) const;

  const std::vector<NamedParameter>& parameters() const { return parameters_; }
  // All that the decoder holds beside its parameters.
  const RopeTable& table() const { return table_; }
  const DecoderConfig& config() const { return config_; }

 private:
  at::Tensor run(const at::Tensor& tokens, const RopeTable& table) const;

  DecoderConfig config_;
  const DecoderOps& ops_;
  RopeTable table_;  // [max_positions, head_dim / 2]
  std::unique_ptr<Embedding> embedding_;
  struct WrappedBlock {
    std::unique_ptr<DecoderBlock> block;
    std::unique_ptr<BlockWrapper> wrapper;
  };
  std::vector<WrappedBlock> blocks_;
  NamedParameter norm_;
  std::unique_ptr<OutputHead> head_;
  std::vector<NamedParameter> parameters_;
};

}  // namespace dai::intro
