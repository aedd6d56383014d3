// SPDX-License-Identifier: Apache-2.0

// The inside of libdai_cuda.so: what common/torch/cuda_library.h promises.

#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include "common/torch/c10d_compat.h"
#include "common/torch/cuda/cuda_check.h"
#include "common/torch/cuda_library.h"

namespace dai {
namespace {

int device_count() {
  return c10::cuda::device_count();
}

std::string describe_device(int index) {
  cudaDeviceProp properties{};
  DAI_CUDA_CHECK(cudaGetDeviceProperties(&properties, index));
  return fmt::format("{}, {} GiB", properties.name,
                     properties.totalGlobalMem >> 30);
}

c10::intrusive_ptr<::c10d::Backend> make_nccl_backend(
    const c10::intrusive_ptr<::c10d::Store>& store, int rank, int size,
    int index, std::chrono::milliseconds timeout) {
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(index));
  auto options = ::c10d::ProcessGroupNCCL::Options::create();
  options->timeout = timeout;
  return c10::make_intrusive<::c10d::ProcessGroupNCCL>(store, rank, size,
                                                       options);
}

}  // namespace

extern "C" const CudaLibrary* dai_cuda_library() {
  static const CudaLibrary library{device_count, describe_device,
                                   make_nccl_backend};
  return &library;
}

}  // namespace dai
