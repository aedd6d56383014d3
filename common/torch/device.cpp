// SPDX-License-Identifier: Apache-2.0
#include "common/torch/device.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "common/errors.h"
#include "common/log.h"
#include "common/torch/cuda_library.h"
#include "common/torch/own_library.h"

namespace dai {
namespace {

namespace fs = std::filesystem;

bool has_nvidia_driver() {
  std::error_code ignored;
  if (fs::exists("/dev/nvidiactl", ignored)) return true;
  // Jetson and WSL have no such node; there the driver's library tells.
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver) dlclose(driver);
  return driver != nullptr;
}

std::string cpu_model() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    const auto colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown model";  // aarch64 kernels print part numbers only
}

}  // namespace

void* cuda_library_symbol(const char* library_name, const char* symbol) {
  if (!has_nvidia_driver()) return nullptr;
  return own_library_symbol(
      library_name, symbol,
      "this machine has an NVIDIA driver, but this is a CPU build (build "
      "with preset cuda to use it)");
}

const CudaLibrary* load_cuda_library() {
  static auto* const entry = reinterpret_cast<decltype(&dai_cuda_library)>(
      cuda_library_symbol("libdai_cuda.so", "dai_cuda_library"));
  return entry ? entry() : nullptr;
}

at::Device choose_device(std::string_view flag, const LaunchContext& launch) {
  if (flag == "cpu") return at::kCPU;
  if (flag != "auto" && flag != "cuda") {
    throw UsageError(
        fmt::format("--device {}: accepted are auto, cpu and cuda", flag));
  }
  int found = 0;
  try {
    const CudaLibrary* cuda = load_cuda_library();
    found = cuda ? cuda->device_count() : 0;
  } catch (const Unavailable& e) {
    if (flag == "cuda") throw;
    spdlog::warn("running on the CPU: {}", e.what());
  }
  if (found == 0) {
    if (flag == "auto") return at::kCPU;
    throw Unavailable("needs a CUDA device, found 0");
  }
  if (!at::hasCUDA()) {
    // PyTorch asked for its CUDA hooks once, found none and will not ask again.
    throw std::logic_error("choose_device() came after the first use of torch");
  }
  // NCCL refuses two ranks on one device unless each has its own NCCL_HOSTID;
  // who sets that asks for sharing.
  if (launch.local_world_size > found && !std::getenv("NCCL_HOSTID")) {
    throw Unavailable(fmt::format("needs {} CUDA devices, found {}",
                                  launch.local_world_size, found));
  }
  return {at::kCUDA, static_cast<c10::DeviceIndex>(launch.local_rank % found)};
}

std::string describe_device(at::Device device) {
  if (device.is_cuda()) {
    return fmt::format("{} ({})", device.str(),
                       load_cuda_library()->describe_device(device.index()));
  }
  const int threads = at::get_num_threads();
  return fmt::format("cpu ({}, {} thread{})", cpu_model(), threads,
                     threads == 1 ? "" : "s");
}

void set_deterministic_threads() {
  at::set_num_threads(1);
}

}  // namespace dai
