// SPDX-License-Identifier: Apache-2.0
#pragma once

// A folder of Hugging Face's: config.json of model_type "llama" and weights in
// model.safetensors, or in several files that model.safetensors.index.json
// lists. Weights are F32, F16 or BF16.
//
//   HfModel model("SmolLM2-135M-Instruct");
//
// Refused by name: other model types, rope types but default, linear and
// llama3, biases, activations but silu, heads whose size is not hidden / heads,
// other dtypes, an index that leads out of the folder.

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "ch06_paged_inference/model_file/model_file.h"
#include "common/safetensors.h"

namespace dai::paged {

class HfModel : public ModelFile {
 public:
  explicit HfModel(const std::filesystem::path& folder);

  const ModelConfig& config() const override { return config_; }
  StoredWeight stored(const std::string& name) const override;
  const std::string& where() const override { return where_; }
  std::size_t tensor_count() const override;

 private:
  const SafetensorsFile& file_of(const std::string& weight) const;

  std::string where_;  // "'folder'"
  ModelConfig config_;
  std::map<std::string, std::string> file_names_;  // of each weight; none: one
  std::map<std::string, SafetensorsFile> files_;
};

// What a config.json says. `where` begins every error.
ModelConfig hf_model_config(std::string_view json, std::string_view where);

}  // namespace dai::paged
