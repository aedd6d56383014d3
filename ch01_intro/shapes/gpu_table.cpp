// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/shapes/gpu_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

#include "common/errors.h"

namespace dai::intro {
namespace {

std::string plain(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) {
    return static_cast<char>(std::tolower(c));
  });
  const std::string maker = "nvidia ";
  return name.starts_with(maker) ? name.substr(maker.size()) : name;
}

}  // namespace

const std::vector<GpuModel>& gpus() {
  static const std::vector<GpuModel> kGpus = {
      {"V100", 80, 16},        {"T4", 40, 16},        {"A100", 108, 128},
      {"A10", 72, 128},        {"RTX 3090", 82, 128}, {"H100", 132, 128},
      {"H100 PCIe", 114, 128}, {"H200", 132, 128},    {"B200", 148, 128},
      {"L4", 58, 128},         {"L40S", 142, 128},    {"RTX 4090", 128, 128}};
  return kGpus;
}

const GpuModel& named_gpu(const std::string& name) {
  for (const GpuModel& gpu : gpus()) {
    if (plain(gpu.name) == plain(name)) return gpu;
  }
  std::vector<std::string> names;
  for (const GpuModel& gpu : gpus()) names.push_back(gpu.name);
  throw UsageError(
      fmt::format("no GPU '{}'; there are: {}", name, fmt::join(names, ", ")));
}

const std::vector<Tile>& cublas_tiles() {
  static const std::vector<Tile> kTiles = {{256, 128}, {128, 256}, {128, 128},
                                           {256, 64},  {64, 256},  {128, 64},
                                           {64, 128},  {64, 64}};
  return kTiles;
}

}  // namespace dai::intro
