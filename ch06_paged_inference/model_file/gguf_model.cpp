// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/model_file/gguf_model.h"

#include <fmt/format.h>

#include <array>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "common/strict_json.h"

namespace dai::paged {
namespace {

using Names = std::pair<std::string_view, std::string_view>;

constexpr std::array<Names, 3> kOutside{{
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
}};
constexpr std::array<Names, 9> kInLayer{{
    {"input_layernorm", "attn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
}};
constexpr std::string_view kLayers = "model.layers.";
constexpr std::string_view kWeight = ".weight";

void refuse_what_is_not_llama(const GgufFile& file) {
  const std::string_view architecture = file.text("general.architecture");
  if (architecture != "llama") {
    refuse(file.where(), "is of architecture {}, llama is supported",
           printable(architecture));
  }
  if (file.has("llama.expert_count") && file.count("llama.expert_count") > 0) {
    refuse(file.where(), "has {} experts a layer, which is not supported",
           file.count("llama.expert_count"));
  }
  for (const auto& [name, tensor] : file.tensors()) {
    if (name.ends_with(".bias")) {
      refuse(file.where(), "has a bias ({}), which is not supported",
             printable(name));
    }
  }
}

std::int64_t vocab_size(const GgufFile& file) {
  const GgufTensor& table = file.at("token_embd.weight");
  return table.dims.size() == 2 ? table.dims[1] : 0;
}

std::vector<float> rope_divisors(const GgufFile& file, std::int64_t pairs) {
  if (const GgufTensor* tensor = file.find("rope_freqs.weight")) {
    if (tensor->dims != std::vector{pairs}) {
      refuse(file.where(), "rope_freqs.weight has {} values, {} are expected",
             tensor->dims[0], pairs);
    }
    std::vector<float> divisors(static_cast<std::size_t>(pairs));
    dequantize(tensor->format, tensor->bytes, divisors);
    for (const float divisor : divisors) {
      if (!(divisor > 0)) {
        refuse(file.where(), "rope_freqs.weight has a divisor of {}", divisor);
      }
    }
    return divisors;
  }
  if (!file.has("llama.rope.scaling.type")) return {};
  const std::string_view type = file.text("llama.rope.scaling.type");
  if (type == "none") return {};
  if (type != "linear") {
    refuse(file.where(),
           "llama.rope.scaling.type is {}; none, linear and Llama 3.1's "
           "rope_freqs.weight are supported",
           printable(type));
  }
  const double factor = file.number("llama.rope.scaling.factor");
  if (!(factor > 0)) {
    refuse(file.where(), "llama.rope.scaling.factor is {}", factor);
  }
  return std::vector<float>(static_cast<std::size_t>(pairs),
                            static_cast<float>(factor));
}

}  // namespace

std::string gguf_tensor_name(const std::string& name) {
  for (const auto& [ours, theirs] : kOutside) {
    if (name == ours) return std::string(theirs);
  }
  if (name.starts_with(kLayers) && name.ends_with(kWeight)) {
    const std::string_view rest = std::string_view(name).substr(kLayers.size());
    const std::size_t dot = rest.find('.');
    if (dot != std::string_view::npos &&
        dot + 1 + kWeight.size() < rest.size()) {
      const std::string_view part =
          rest.substr(dot + 1, rest.size() - dot - 1 - kWeight.size());
      for (const auto& [ours, theirs] : kInLayer) {
        if (part == ours) {
          return fmt::format("blk.{}.{}.weight", rest.substr(0, dot), theirs);
        }
      }
    }
  }
  throw std::invalid_argument(
      fmt::format("'{}' is no weight of a Llama checkpoint", name));
}

ModelConfig gguf_model_config(const GgufFile& file) {
  refuse_what_is_not_llama(file);
  ModelConfig config;
  intro::DecoderConfig& d = config.decoder;
  d.name = file.has("general.name") ? file.text("general.name") : "llama";
  d.vocab_size = vocab_size(file);
  d.hidden = file.count("llama.embedding_length");
  d.layers = file.count("llama.block_count");
  d.heads = file.count("llama.attention.head_count");
  d.kv_heads = file.has("llama.attention.head_count_kv")
                   ? file.count("llama.attention.head_count_kv")
                   : d.heads;
  d.ffn = file.count("llama.feed_forward_length");
  d.max_positions = file.count("llama.context_length");
  // A float that was read from "1e-05" is that number again in shortest form.
  d.norm_eps = file.number("llama.attention.layer_norm_rms_epsilon");
  if (file.has("llama.rope.freq_base")) {
    d.rope_theta = file.number("llama.rope.freq_base");
  }
  d.tied_embeddings = file.find("output.weight") == nullptr;
  try {
    d.check();
  } catch (const UsageError& error) {
    refuse(file.where(), "{}", error.what());
  }
  for (const char* key :
       {"llama.attention.key_length", "llama.attention.value_length",
        "llama.rope.dimension_count"}) {
    if (file.has(key) && file.count(key) != d.head_dim()) {
      refuse(file.where(), "{} is {}, heads of {} / {} = {} are supported", key,
             file.count(key), d.hidden, d.heads, d.head_dim());
    }
  }
  config.rope_divisors = rope_divisors(file, d.head_dim() / 2);
  return config;
}

GgufModel::GgufModel(const std::filesystem::path& path)
    : file_(GgufFile::open(path)), config_(gguf_model_config(file_)) {
  check_weights();
}

StoredWeight GgufModel::stored(const std::string& name) const {
  const GgufTensor& tensor = file_.at(gguf_tensor_name(name));
  if (tensor.dims.size() > 2) {
    refuse(where(), "{} has {} dimensions, 1 or 2 are expected", name,
           tensor.dims.size());
  }
  StoredWeight weight;
  weight.format = tensor.format;
  weight.columns = tensor.dims[0];
  weight.rows = tensor.dims.size() == 2 ? tensor.dims[1] : 1;
  weight.bytes = tensor.bytes;
  if (name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight")) {
    weight.paired_rows = config_.decoder.head_dim();
  }
  return weight;
}

}  // namespace dai::paged
