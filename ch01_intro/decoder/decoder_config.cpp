// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/decoder/decoder_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <utility>

#include "common/closest_match.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

// Ours, then released ones.
const std::vector<DecoderConfig>& configs() {
  static const std::vector<DecoderConfig> kConfigs = {
      {.name = "nano-1m",
       .vocab_size = 1536,
       .hidden = 96,
       .layers = 12,
       .heads = 12,
       .kv_heads = 12,
       .ffn = 192,
       .max_positions = 512},
      {.name = "small-5m",
       .vocab_size = 4096,
       .hidden = 192,
       .layers = 12,
       .heads = 12,
       .kv_heads = 12,
       .ffn = 384,
       .max_positions = 512},
      {.name = "bench-9m",
       .vocab_size = 16384,
       .hidden = 192,
       .layers = 12,
       .heads = 12,
       .kv_heads = 12,
       .ffn = 576,
       .max_positions = 1024},
      {.name = "medium-28m",
       .vocab_size = 16384,
       .hidden = 384,
       .layers = 12,
       .heads = 24,
       .kv_heads = 12,
       .ffn = 1152,
       .max_positions = 1024},
      {.name = "base-110m",
       .vocab_size = 32768,
       .hidden = 768,
       .layers = 12,
       .heads = 24,
       .kv_heads = 12,
       .ffn = 2304,
       .max_positions = 2048},
      {.name = "large-730m",
       .vocab_size = 32768,
       .hidden = 1536,
       .layers = 24,
       .heads = 24,
       .kv_heads = 12,
       .ffn = 4608,
       .max_positions = 4096},
      {.name = "odd-1m",
       .vocab_size = 2049,
       .hidden = 70,
       .layers = 11,
       .heads = 7,
       .kv_heads = 7,
       .ffn = 187,
       .max_positions = 509},
      {.name = "smollm2-135m",
       .vocab_size = 49152,
       .hidden = 576,
       .layers = 30,
       .heads = 9,
       .kv_heads = 3,
       .ffn = 1536,
       .max_positions = 8192,
       .rope_theta = 100000},
      {.name = "llama-1b",
       .vocab_size = 128256,
       .hidden = 2048,
       .layers = 16,
       .heads = 32,
       .kv_heads = 8,
       .ffn = 8192,
       .max_positions = 131072,
       .rope_theta = 500000},
      {.name = "llama-8b",
       .vocab_size = 128256,
       .hidden = 4096,
       .layers = 32,
       .heads = 32,
       .kv_heads = 8,
       .ffn = 14336,
       .max_positions = 131072,
       .rope_theta = 500000,
       .tied_embeddings = false},
      {.name = "llama-70b",
       .vocab_size = 128256,
       .hidden = 8192,
       .layers = 80,
       .heads = 64,
       .kv_heads = 8,
       .ffn = 28672,
       .max_positions = 131072,
       .rope_theta = 500000,
       .tied_embeddings = false},
      {.name = "llama-405b",
       .vocab_size = 128256,
       .hidden = 16384,
       .layers = 126,
       .heads = 128,
       .kv_heads = 8,
       .ffn = 53248,
       .max_positions = 131072,
       .rope_theta = 500000,
       .tied_embeddings = false}};
  return kConfigs;
}

}  // namespace

std::int64_t ParameterShape::elements() const {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return count;
}

void DecoderConfig::check() const {
  const auto refuse = [&](const std::string& why) {
    throw UsageError(fmt::format("decoder {}: {}", name, why));
  };
  const std::pair<const char*, std::int64_t> sizes[] = {
      {"vocab_size", vocab_size},
      {"hidden", hidden},
      {"layers", layers},
      {"heads", heads},
      {"kv_heads", kv_heads},
      {"ffn", ffn},
      {"max_positions", max_positions}};
  for (const auto& [what, size] : sizes) {
    if (size < 1) refuse(fmt::format("{} {}, at least 1", what, size));
  }
  if (hidden % heads != 0) {
    refuse(fmt::format("hidden {} is no multiple of {} heads", hidden, heads));
  }
  if (heads % kv_heads != 0) {
    refuse(fmt::format("{} heads are no multiple of {} KV heads", heads,
                       kv_heads));
  }
  if (head_dim() % 2 != 0) {
    refuse(fmt::format(
        "head size {} = {} / {} is odd, rotary positions turn pairs",
        head_dim(), hidden, heads));
  }
  if (!(rope_theta > 0) || !std::isfinite(rope_theta) || !(norm_eps > 0) ||
      !std::isfinite(norm_eps)) {
    refuse(fmt::format("rope_theta {} and norm_eps {}: positive numbers",
                       rope_theta, norm_eps));
  }
}

std::vector<ParameterShape> DecoderConfig::parameters() const {
  const std::int64_t kv = kv_heads * head_dim();
  std::vector<ParameterShape> list;
  list.push_back({"model.embed_tokens.weight", {vocab_size, hidden}});
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    const std::string at = fmt::format("model.layers.{}.", layer);
    list.push_back({at + "input_layernorm.weight", {hidden}});
    list.push_back({at + "self_attn.q_proj.weight", {hidden, hidden}});
    list.push_back({at + "self_attn.k_proj.weight", {kv, hidden}});
    list.push_back({at + "self_attn.v_proj.weight", {kv, hidden}});
    list.push_back({at + "self_attn.o_proj.weight", {hidden, hidden}});
    list.push_back({at + "post_attention_layernorm.weight", {hidden}});
    list.push_back({at + "mlp.gate_proj.weight", {ffn, hidden}});
    list.push_back({at + "mlp.up_proj.weight", {ffn, hidden}});
    list.push_back({at + "mlp.down_proj.weight", {hidden, ffn}});
  }
  list.push_back({"model.norm.weight", {hidden}});
  if (!tied_embeddings)
    list.push_back({"lm_head.weight", {vocab_size, hidden}});
  return list;
}

std::int64_t DecoderConfig::parameter_count() const {
  const std::int64_t attention =
      2 * hidden * hidden + 2 * hidden * kv_heads * head_dim();
  const std::int64_t block = attention + 3 * hidden * ffn + 2 * hidden;
  const std::int64_t tables = (tied_embeddings ? 1 : 2) * vocab_size * hidden;
  return tables + layers * block + hidden;
}

DecoderConfig decoder_config(const std::string& name) {
  for (const DecoderConfig& config : configs()) {
    if (config.name == name) return config;
  }
  const std::vector<std::string> names = decoder_config_names();
  const std::string near = closest_match(name, names);
  throw UsageError(near.empty() ? fmt::format("no decoder {}; there are: {}",
                                              name, fmt::join(names, ", "))
                                : fmt::format("no decoder {}, did you mean {}?",
                                              name, near));
}

std::vector<std::string> decoder_config_names() {
  std::vector<std::string> names;
  for (const DecoderConfig& config : configs()) names.push_back(config.name);
  return names;
}

}  // namespace dai::intro
