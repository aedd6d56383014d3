// SPDX-License-Identifier: Apache-2.0
#include "tests/ch06_paged_inference/support/tiny_model.h"

#include <fmt/format.h>

#include <bit>
#include <nlohmann/json.hpp>

#include "ch06_paged_inference/model_file/gguf_model.h"
#include "common/safetensors.h"

namespace dai::paged {
namespace {

// As llama.cpp's converter does it: of each head the rows j = 0, 1 of pair i,
// in the checkpoint head_dim / 2 apart, become neighbours.
std::vector<float> with_paired_rows(const std::vector<float>& rows,
                                    std::size_t columns, std::size_t head_dim) {
  std::vector<float> out;
  for (std::size_t head = 0; head < rows.size() / columns / head_dim; ++head) {
    for (std::size_t i = 0; i < head_dim / 2; ++i) {
      for (std::size_t j = 0; j < 2; ++j) {
        const std::size_t row = head * head_dim + j * head_dim / 2 + i;
        out.insert(out.end(), rows.begin() + row * columns,
                   rows.begin() + (row + 1) * columns);
      }
    }
  }
  return out;
}

std::string bytes_of_floats(const std::vector<float>& values, bool half) {
  GgufBytes bytes;
  for (const float value : values) {
    if (half) {
      bytes.number(static_cast<std::uint16_t>(
          std::bit_cast<std::uint32_t>(value) >> 16));
    } else {
      bytes.number(value);
    }
  }
  return bytes.text();
}

}  // namespace

intro::DecoderConfig tiny_config() {
  return {.name = "tiny",
          .vocab_size = 6,
          .hidden = 8,
          .layers = 2,
          .heads = 2,
          .kv_heads = 1,
          .ffn = 12,
          .max_positions = 32,
          .rope_theta = 100,
          .norm_eps = 0.25,
          .tied_embeddings = false};
}

Weights tiny_weights(const intro::DecoderConfig& config) {
  Weights weights;
  int salt = 0;
  for (const intro::ParameterShape& p : config.parameters()) {
    std::vector<float>& values = weights[p.name];
    ++salt;
    for (std::int64_t i = 0; i < p.elements(); ++i) {
      values.push_back(static_cast<float>((i * 37 + salt * 11) % 127 - 63) /
                       64);
    }
  }
  return weights;
}

GgufWriter tiny_gguf(const intro::DecoderConfig& config, const Weights& weights,
                     bool half) {
  const auto u32 = [](std::int64_t n) { return static_cast<std::uint32_t>(n); };
  GgufWriter file;
  file.text("general.architecture", "llama");
  file.u32("llama.block_count", u32(config.layers));
  file.u32("llama.context_length", u32(config.max_positions));
  file.u32("llama.embedding_length", u32(config.hidden));
  file.u32("llama.feed_forward_length", u32(config.ffn));
  file.u32("llama.attention.head_count", u32(config.heads));
  file.u32("llama.attention.head_count_kv", u32(config.kv_heads));
  file.f32("llama.rope.freq_base", static_cast<float>(config.rope_theta));
  file.f32("llama.attention.layer_norm_rms_epsilon",
           static_cast<float>(config.norm_eps));
  for (const intro::ParameterShape& p : config.parameters()) {
    std::vector<float> values = weights.at(p.name);
    std::vector<std::uint64_t> dims(p.shape.rbegin(), p.shape.rend());
    if (p.name.ends_with("q_proj.weight") ||
        p.name.ends_with("k_proj.weight")) {
      values = with_paired_rows(values, dims[0],
                                static_cast<std::size_t>(config.head_dim()));
    }
    const bool as_half = half && dims.size() == 2;
    file.tensor(gguf_tensor_name(p.name), dims, as_half ? 30 : 0,
                bytes_of_floats(values, as_half));
  }
  return file;
}

std::string tiny_config_json(const intro::DecoderConfig& config) {
  return nlohmann::json{{"model_type", "llama"},
                        {"vocab_size", config.vocab_size},
                        {"hidden_size", config.hidden},
                        {"num_hidden_layers", config.layers},
                        {"num_attention_heads", config.heads},
                        {"num_key_value_heads", config.kv_heads},
                        {"intermediate_size", config.ffn},
                        {"max_position_embeddings", config.max_positions},
                        {"rms_norm_eps", config.norm_eps},
                        {"rope_theta", config.rope_theta},
                        {"rope_scaling", nullptr},
                        {"hidden_act", "silu"},
                        {"attention_bias", false},
                        {"tie_word_embeddings", config.tied_embeddings},
                        {"torch_dtype", "float32"}}
      .dump();
}

void write_tiny_hf(const std::filesystem::path& folder,
                   const intro::DecoderConfig& config, const Weights& weights,
                   bool sharded) {
  std::filesystem::create_directories(folder);
  write_file_atomically(folder / "config.json", tiny_config_json(config));
  std::vector<NamedTensor> files[2];
  nlohmann::json map;
  for (const intro::ParameterShape& p : config.parameters()) {
    const bool second = sharded && p.name.find("layers.1.") != p.name.npos;
    files[second ? 1 : 0].push_back(
        {p.name, Dtype::F32, p.shape,
         std::as_bytes(std::span(weights.at(p.name)))});
    map[p.name] = second ? "b.safetensors" : "a.safetensors";
  }
  if (!sharded) {
    save_safetensors(folder / "model.safetensors", files[0]);
    return;
  }
  save_safetensors(folder / "a.safetensors", files[0]);
  save_safetensors(folder / "b.safetensors", files[1]);
  write_file_atomically(
      folder / "model.safetensors.index.json",
      nlohmann::json{{"metadata", {}}, {"weight_map", map}}.dump());
}

}  // namespace dai::paged
