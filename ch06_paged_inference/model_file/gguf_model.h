// SPDX-License-Identifier: Apache-2.0
#pragma once

// A GGUF file of architecture "llama" as a ModelFile.
//
//   GgufModel model("model.gguf");
//   model.gguf().text("tokenizer.ggml.pre");   // what else the file says
//
// Rows of q and k stand in the order of rotary pairs there (llama.cpp's
// converter puts them so): StoredWeight::paired_rows says it, read() undoes it.
// Rotary scaling: none, "linear", and Llama 3.1's, which the file holds as the
// tensor rope_freqs.weight. Refused by name: other architectures, "yarn" and
// other scalings, experts, biases, heads whose size is not hidden / heads.

#include <filesystem>
#include <string>

#include "ch06_paged_inference/model_file/gguf.h"
#include "ch06_paged_inference/model_file/model_file.h"

namespace dai::paged {

class GgufModel : public ModelFile {
 public:
  explicit GgufModel(const std::filesystem::path& path);

  const ModelConfig& config() const override { return config_; }
  StoredWeight stored(const std::string& name) const override;
  const std::string& where() const override { return file_.where(); }
  std::size_t tensor_count() const override { return file_.tensors().size(); }

  const GgufFile& gguf() const { return file_; }

 private:
  GgufFile file_;
  ModelConfig config_;
};

// "model.layers.3.mlp.up_proj.weight" -> "blk.3.ffn_up.weight". Throws
// std::invalid_argument for a name that no Llama checkpoint has.
std::string gguf_tensor_name(const std::string& name);

// What the keys and tensors of a file say. Throws UsageError.
ModelConfig gguf_model_config(const GgufFile& file);

}  // namespace dai::paged
