// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/model_file/checkpoint_model.h"

#include <fmt/format.h>

#include "ch03_ddp/checkpoint/checkpoint_store.h"
#include "common/strict_json.h"

namespace dai::paged {
namespace {

namespace fs = std::filesystem;

// A run's folder stands for its newest checkpoint that is whole.
fs::path checkpoint_in(const fs::path& folder) {
  if (fs::exists(folder / "manifest.json")) return folder;
  const ddp::FoundCheckpoint found = ddp::CheckpointStore(folder).find_newest();
  if (found.path.empty()) {
    refuse(fmt::format("'{}'", folder.string()), "holds no whole checkpoint{}",
           found.damaged.empty()
               ? ""
               : fmt::format(" ({})", found.damaged.front().reason));
  }
  return found.path;
}

}  // namespace

CheckpointModel::CheckpointModel(const fs::path& folder) {
  const fs::path path = checkpoint_in(folder);
  where_ = fmt::format("'{}'", path.string());
  checkpoint_ = std::make_unique<Checkpoint>(path);
  const Metadata& metadata = checkpoint_->manifest().metadata;
  const auto model = metadata.find("config.model");
  if (model == metadata.end()) {
    refuse(where_, "does not say which decoder it is of (\"config.model\")");
  }
  try {
    config_.decoder = intro::decoder_config(model->second);
  } catch (const UsageError& error) {
    refuse(where_, "is no checkpoint of a decoder: {}", error.what());
  }
  check_weights();
}

StoredWeight CheckpointModel::stored(const std::string& name) const {
  const std::string full = "model." + name;  // beside the optimizer's "adamw."
  const auto& tensors = checkpoint_->manifest().tensors;
  const auto found = tensors.find(full);
  if (found == tensors.end()) refuse(where_, "has no tensor {}", full);
  const TensorEntry& entry = found->second;
  if (entry.dtype != Dtype::F32 && entry.dtype != Dtype::BF16) {
    refuse(where_, "{} is {}, F32 and BF16 are supported", full,
           dtype_name(entry.dtype));
  }
  if (entry.shape.empty() || entry.shape.size() > 2) {
    refuse(where_, "{} has {} dimensions, 1 or 2 are expected", full,
           entry.shape.size());
  }
  const auto [at, fresh] = weights_.try_emplace(name);
  if (fresh) {
    at->second.resize(tensor_bytes(entry.dtype, entry.shape));
    checkpoint_->read(full, 0, at->second);
  }
  return {.format = entry.dtype == Dtype::F32 ? BlockFormat::kF32
                                              : BlockFormat::kBF16,
          .rows = entry.shape.size() == 2 ? entry.shape[0] : 1,
          .columns = entry.shape.back(),
          .bytes = at->second};
}

}  // namespace dai::paged
