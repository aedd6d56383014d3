// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the CUDA half offers to the CPU half. It lives in libdai_cuda.so, which
// links libtorch_cuda and NCCL; load_cuda_library() opens it at run time, and
// only on a machine with an NVIDIA driver.
//
//   if (const dai::CudaLibrary* cuda = dai::load_cuda_library()) {
//     int devices = cuda->device_count();
//   }

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <string>

namespace c10d {
class Backend;
class Store;
}  // namespace c10d

namespace dai {

struct CudaLibrary {
  int (*device_count)();
  std::string (*describe_device)(int index);  // "NVIDIA H100 80GB HBM3, 79 GiB"
  // A ProcessGroupNCCL on device `index` of this process.
  c10::intrusive_ptr<::c10d::Backend> (*make_nccl_backend)(
      const c10::intrusive_ptr<::c10d::Store>& store, int rank, int size,
      int index, std::chrono::milliseconds timeout);
};

// The one symbol that libdai_cuda.so exports for dlsym().
extern "C" const CudaLibrary* dai_cuda_library();

// Null when this machine has no NVIDIA driver. Throws Unavailable when it has
// one but libdai_cuda.so is absent (a CPU build) or does not load.
const CudaLibrary* load_cuda_library();

// The same for a chapter's own kernels (dai_cuda_library in CMake): the address
// of `symbol` in lib/`library_name`, opened and never closed. Null and
// Unavailable as above.
void* cuda_library_symbol(const char* library_name, const char* symbol);

}  // namespace dai
