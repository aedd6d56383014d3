// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/checkpoint/example_checkpoint.h"

#include <cstdint>
#include <fstream>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "common/errors.h"
#include "common/manifest.h"

namespace dai::ddp {

namespace fs = std::filesystem;

void write_example_checkpoint(const fs::path& folder) {
  fs::create_directories(folder);
  std::vector<float> weights(3000), moments(3000);
  std::iota(weights.begin(), weights.end(), 0.5f);
  CheckpointManifest manifest;
  manifest.metadata = {{"steps", "3"}, {"config.model", "example"}};
  const Shape shape{60, 50};
  for (const std::int64_t rank : {0, 1}) {
    const std::string file = rank == 0 ? "rank-00000-of-00002.safetensors"
                                       : "rank-00001-of-00002.safetensors";
    std::vector<NamedTensor> tensors;
    for (const auto& [name, values] : {std::pair{"model.weight", &weights},
                                       std::pair{"adamw.m.weight", &moments}}) {
      const auto run =
          std::as_bytes(std::span(*values).subspan(rank * 1500, 1500));
      manifest.add_shard(name, Dtype::F32, shape, file, rank * 1500, run);
      tensors.push_back({name, Dtype::F32, {1500}, run});
    }
    save_safetensors(folder / file, tensors);
  }
  write_manifest(folder, manifest);
}

void flip_a_bit(const fs::path& checkpoint) {
  const fs::path path = checkpoint / "rank-00001-of-00002.safetensors";
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(-1, std::ios::end);
  const int byte = file.get();
  file.seekp(-1, std::ios::end);
  file.put(static_cast<char>(byte ^ 1));
  if (!file) throw UsageError("'" + path.string() + "': cannot be changed");
}

}  // namespace dai::ddp
