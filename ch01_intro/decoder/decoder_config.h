// SPDX-License-Identifier: Apache-2.0
#pragma once

// The shape of a Llama-style decoder (Touvron et al.: LLaMA, 2023; Llama 3,
// 2024): RMSNorm before attention and before the MLP, rotary positions,
// grouped-query attention, SwiGLU, no biases. Torch-free, so that planners can
// reckon with 405 billion parameters without a tensor library.
//
//   DecoderConfig config = decoder_config("bench-9m");
//   config.parameter_count();
//   for (const ParameterShape& p : config.parameters()) ...
//
// Parameters carry the names of Hugging Face's Llama checkpoints, in the
// order in which a forward pass meets them. The example configurations'
// heads, KV heads, hidden size and layers divide by 12, so 2, 3 and 4 ranks
// cut them evenly; "odd-1m" is there to be refused by what cuts.
// Shapes of released models follow their published config.json.

#include <cstdint>
#include <string>
#include <vector>

namespace dai::intro {

struct ParameterShape {
  std::string name;                 // "model.layers.0.mlp.up_proj.weight"
  std::vector<std::int64_t> shape;  // [out, in], [vocab, hidden] or [hidden]

  std::int64_t elements() const;
};

struct DecoderConfig {
  std::string name;
  std::int64_t vocab_size = 0;
  std::int64_t hidden = 0;
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t ffn = 0;  // of SwiGLU's gate and up projection
  std::int64_t max_positions = 0;
  double rope_theta = 10000;
  double norm_eps = 1e-5;
  bool tied_embeddings = true;  // the output head is the embedding

  std::int64_t head_dim() const { return hidden / heads; }

  // Throws UsageError that names both numbers: a size below 1, hidden not a
  // multiple of heads, heads not of kv_heads, an odd head_dim (rotary turns
  // pairs), theta or eps that are not positive.
  void check() const;

  std::vector<ParameterShape> parameters() const;
  std::int64_t parameter_count() const;  // closed form, no list
};

// "nano-1m", "small-5m", "bench-9m", "medium-28m", "base-110m", "large-730m",
// "odd-1m", "smollm2-135m", "llama-1b", "llama-8b", "llama-70b", "llama-405b".
// Throws UsageError that offers the nearest name.
DecoderConfig decoder_config(const std::string& name);
std::vector<std::string> decoder_config_names();

}  // namespace dai::intro
