// SPDX-License-Identifier: Apache-2.0
#pragma once

// A checkpoint of chapter 3's training (common/manifest.h) as a ModelFile: what
// ch03_ddp_train wrote can be served as it stands, whatever number of ranks
// wrote it. Its shape is the decoder named in the manifest ("config.model").
//
//   CheckpointModel model("run/step-000120");   // or "run": the newest whole
//
// Weights that lie in several shards are put together when first asked for, so
// const members may not be called from several threads.

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ch06_paged_inference/model_file/model_file.h"
#include "common/manifest.h"

namespace dai::paged {

class CheckpointModel : public ModelFile {
 public:
  explicit CheckpointModel(const std::filesystem::path& folder);

  const ModelConfig& config() const override { return config_; }
  StoredWeight stored(const std::string& name) const override;
  const std::string& where() const override { return where_; }
  const Metadata& metadata() const { return checkpoint_->manifest().metadata; }
  std::size_t tensor_count() const override {
    return checkpoint_->manifest().tensors.size();
  }

 private:
  std::string where_;  // "'run/step-000120'"
  ModelConfig config_;
  std::unique_ptr<Checkpoint> checkpoint_;
  mutable std::map<std::string, std::vector<std::byte>> weights_;
};

}  // namespace dai::paged
