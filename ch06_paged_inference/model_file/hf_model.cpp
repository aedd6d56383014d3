// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/model_file/hf_model.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/file.h"
#include "common/strict_json.h"

namespace dai::paged {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kOneFile = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

// null stands for "not given" in these files.
bool given(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && !found->is_null();
}

double get_number(const Json& object, const char* key, std::string_view where) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) {
    refuse(where, "\"{}\" is no number", key);
  }
  return found->get<double>();
}

void refuse_flag(const Json& json, const char* key, std::string_view where) {
  if (given(json, key) && json[key] != false) {
    refuse(where, "\"{}\" is {}, which is not supported", key,
           printable(json[key].dump()));
  }
}

// "rope_scaling" beside "rope_theta", or both in "rope_parameters" (v5).
std::vector<float> rope(const Json& json, std::string_view where,
                        intro::DecoderConfig& config) {
  const char* key =
      given(json, "rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (given(json, "rope_theta")) {
    config.rope_theta = get_number(json, "rope_theta", where);
  }
  if (!given(json, key)) return {};
  const Json& rope = json[key];
  if (!rope.is_object()) refuse(where, "\"{}\" is no object", key);
  if (given(rope, "rope_theta")) {
    config.rope_theta = get_number(rope, "rope_theta", where);
  }
  const char* type_key = given(rope, "rope_type") ? "rope_type" : "type";
  const std::string type = get_string(rope, type_key, where);
  if (type == "default") return {};
  const double factor = get_number(rope, "factor", where);
  if (!(factor > 0) || !std::isfinite(factor)) {
    refuse(where, "\"{}\" has a factor of {}", key, factor);
  }
  if (type == "linear") {
    return std::vector<float>(static_cast<std::size_t>(config.head_dim() / 2),
                              static_cast<float>(factor));
  }
  if (type != "llama3") {
    refuse(where, "rope type {}: default, linear and llama3 are supported",
           printable(type));
  }
  const Llama3Scaling scaling{
      .factor = factor,
      .low_freq_factor = get_number(rope, "low_freq_factor", where),
      .high_freq_factor = get_number(rope, "high_freq_factor", where),
      .original_positions =
          get_number(rope, "original_max_position_embeddings", where)};
  if (!(scaling.low_freq_factor > 0) ||
      !(scaling.high_freq_factor > scaling.low_freq_factor) ||
      !(scaling.original_positions > 0)) {
    refuse(where,
           "\"{}\": low_freq_factor {}, high_freq_factor {}, {} "
           "positions contradict each other",
           key, scaling.low_freq_factor, scaling.high_freq_factor,
           scaling.original_positions);
  }
  return llama3_rope_divisors(scaling, config.head_dim(), config.rope_theta);
}

std::map<std::string, std::string> read_index(const fs::path& path) {
  const std::string where = fmt::format("'{}'", path.string());
  const Json json = parse_strict_json(read_file(path), where, 8);
  std::map<std::string, std::string> files =
      get_strings(json, "weight_map", where);
  for (const auto& [weight, file] : files) {
    if (file.empty() || fs::path(file).filename() != file || file == "." ||
        file == "..") {
      refuse(where, "{} lies in {}, which is no file of this folder",
             printable(weight), printable(file));
    }
  }
  return files;
}

BlockFormat format_of(Dtype dtype, const std::string& name,
                      const std::string& where) {
  if (dtype == Dtype::F32) return BlockFormat::kF32;
  if (dtype == Dtype::F16) return BlockFormat::kF16;
  if (dtype == Dtype::BF16) return BlockFormat::kBF16;
  refuse(where, "{} is {}, F32, F16 and BF16 are supported", name,
         dtype_name(dtype));
}

}  // namespace

ModelConfig hf_model_config(std::string_view text, std::string_view where) {
  const Json json = parse_strict_json(text, where, 16);
  if (!json.is_object()) refuse(where, "is no JSON object");
  const std::string type = get_string(json, "model_type", where);
  if (type != "llama") {
    refuse(where, "is a model of type {}, llama is supported", printable(type));
  }
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    refuse_flag(json, key, where);
  }
  if (given(json, "hidden_act") && json["hidden_act"] != "silu") {
    refuse(where, "\"hidden_act\" is {}, silu is supported",
           printable(json["hidden_act"].dump()));
  }
  ModelConfig config;
  intro::DecoderConfig& d = config.decoder;
  d.name = "llama";
  d.vocab_size = get_count(json, "vocab_size", where);
  d.hidden = get_count(json, "hidden_size", where);
  d.layers = get_count(json, "num_hidden_layers", where);
  d.heads = get_count(json, "num_attention_heads", where);
  d.kv_heads = given(json, "num_key_value_heads")
                   ? get_count(json, "num_key_value_heads", where)
                   : d.heads;
  d.ffn = get_count(json, "intermediate_size", where);
  d.max_positions = get_count(json, "max_position_embeddings", where);
  d.norm_eps = get_number(json, "rms_norm_eps", where);
  d.tied_embeddings =
      given(json, "tie_word_embeddings") && json["tie_word_embeddings"] == true;
  try {
    d.check();  // before head_dim() divides
    if (given(json, "head_dim") &&
        get_count(json, "head_dim", where) != d.head_dim()) {
      refuse(where, "\"head_dim\" is {}, {} / {} = {} is supported",
             get_count(json, "head_dim", where), d.hidden, d.heads,
             d.head_dim());
    }
    config.rope_divisors = rope(json, where, d);
    d.check();
  } catch (const UsageError& error) {
    if (std::string_view(error.what()).starts_with(where)) throw;
    refuse(where, "{}", error.what());
  }
  return config;
}

HfModel::HfModel(const fs::path& folder)
    : where_(fmt::format("'{}'", folder.string())) {
  const fs::path config = folder / "config.json";
  config_ =
      hf_model_config(read_file(config), fmt::format("'{}'", config.string()));
  if (fs::exists(folder / kIndex)) {
    file_names_ = read_index(folder / kIndex);
    for (const auto& [weight, file] : file_names_) {
      if (!files_.contains(file)) {
        files_.emplace(file, SafetensorsFile::open(folder / file));
      }
    }
  } else {
    files_.emplace(kOneFile, SafetensorsFile::open(folder / kOneFile));
  }
  check_weights();
}

std::size_t HfModel::tensor_count() const {
  std::size_t count = 0;
  for (const auto& [name, file] : files_) count += file.names().size();
  return count;
}

const SafetensorsFile& HfModel::file_of(const std::string& weight) const {
  if (file_names_.empty()) return files_.begin()->second;
  const auto found = file_names_.find(weight);
  if (found == file_names_.end()) {
    refuse(where_, "{} does not list {}", kIndex, weight);
  }
  return files_.at(found->second);
}

StoredWeight HfModel::stored(const std::string& name) const {
  const TensorView& view = file_of(name).at(name);
  if (view.shape.empty() || view.shape.size() > 2) {
    refuse(where_, "{} has {} dimensions, 1 or 2 are expected", name,
           view.shape.size());
  }
  return {.format = format_of(view.dtype, name, where_),
          .rows = view.shape.size() == 2 ? view.shape[0] : 1,
          .columns = view.shape.back(),
          .bytes = view.bytes};
}

}  // namespace dai::paged
