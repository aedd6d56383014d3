// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <fmt/format.h>

#include <filesystem>

#include "ch01_intro/decoder/fused_device.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

// As common/torch/device.cpp does with libdai_cuda.so: beside the program's
// folder, and never closed.
const FusedDevice& open_library() {
  const std::filesystem::path path =
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / ".." /
      "lib" / "libdai_ch01_cuda.so";
  if (!std::filesystem::exists(path)) {
    throw Unavailable(
        "the fused operations' CUDA kernels are not built here; the naive "
        "rung runs on any device");
  }
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  void* entry = library ? dlsym(library, "dai_ch01_fused_cuda") : nullptr;
  if (!entry) {
    throw Unavailable(
        fmt::format("the chapter's CUDA library does not load: {}", dlerror()));
  }
  return *reinterpret_cast<const FusedDevice* (*)()>(entry)();
}

}  // namespace

const FusedDevice& fused_cuda() {
  static const FusedDevice& device = open_library();
  return device;
}

}  // namespace dai::intro
