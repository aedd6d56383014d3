// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>

#include "ch03_ddp/checkpoint/checkpoint_store.h"
#include "ch06_paged_inference/model_file/checkpoint_model.h"
#include "ch06_paged_inference/model_file/gguf_model.h"
#include "ch06_paged_inference/model_file/hf_model.h"
#include "ch06_paged_inference/model_file/model_file.h"
#include "common/strict_json.h"

namespace dai::paged {

std::unique_ptr<ModelFile> open_model(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  if (!fs::is_directory(path)) return std::make_unique<GgufModel>(path);
  if (fs::exists(path / "config.json")) return std::make_unique<HfModel>(path);
  if (fs::exists(path / "manifest.json") ||
      !ddp::CheckpointStore::steps_in(path).empty()) {
    return std::make_unique<CheckpointModel>(path);
  }
  refuse(fmt::format("'{}'", path.string()),
         "is no model: a GGUF file, a folder with config.json and safetensors, "
         "or a checkpoint of ch03_ddp_train is expected");
}

}  // namespace dai::paged
