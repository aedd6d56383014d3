// SPDX-License-Identifier: Apache-2.0
#pragma once

// What is in a checkpoint, whether it is whole, and in what two of them differ.
// For people; torch-free, so that a login node without a GPU's libraries can
// look.
//
//   const CheckpointContents contents = look_at("run/step-000120");
//   contents.damage         // empty, or one line
//   const auto differences = compare_checkpoints(a, b);

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "common/manifest.h"

namespace dai::ddp {

struct CheckpointContents {
  std::filesystem::path path;
  std::string damage = {};           // what is wrong with it; empty: whole
  CheckpointManifest manifest = {};  // empty where that is what is wrong
  std::int64_t elements = 0, bytes = 0, shards = 0;

  // A line a tensor with `every_tensor`, else one for each kind of name.
  std::string to_string(bool every_tensor) const;
};

// Reads all of it. Throws UsageError only for a path that is no folder.
CheckpointContents look_at(const std::filesystem::path& path);

struct TensorDifference {
  std::string name;
  std::int64_t elements = 0;  // whose bits differ
  double max_difference = 0;  // of their values; of F32 and F64 only
  std::string reason = {};    // where they cannot be compared
};

struct CheckpointDifferences {
  std::vector<std::string> metadata;      // "steps: 6 / 9"
  std::vector<TensorDifference> tensors;  // that differ
  std::int64_t equal = 0;                 // tensors

  bool none() const { return metadata.empty() && tensors.empty(); }
  std::string to_string() const;
};

// Whoever wrote how many shards makes no difference. Throws UsageError for one
// that is not whole.
CheckpointDifferences compare_checkpoints(const std::filesystem::path& a,
                                          const std::filesystem::path& b);

}  // namespace dai::ddp
