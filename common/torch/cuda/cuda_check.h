// SPDX-License-Identifier: Apache-2.0
#pragma once

// Every CUDA call in a DAI_CUDA_CHECK: an error becomes an exception that says
// where, what was called and what the code means.
//
//   DAI_CUDA_CHECK(cudaMalloc(&data, bytes));
//   // stream.cu:31: cudaMalloc(&data, bytes): out of memory
//   // (cudaErrorMemoryAllocation)
//
// A kernel launch returns nothing; check cudaGetLastError() after it. What a
// kernel does wrong while it runs shows at the next call that synchronises.

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace dai {

inline void check_cuda(cudaError_t code, const char* call, const char* file,
                       int line) {
  if (code == cudaSuccess) return;
  // Takes the error off the runtime's books, unless it is a sticky one.
  (void)cudaGetLastError();
  throw std::runtime_error(std::string(file) + ":" + std::to_string(line) +
                           ": " + call + ": " + cudaGetErrorString(code) +
                           " (" + cudaGetErrorName(code) + ")");
}

}  // namespace dai

#define DAI_CUDA_CHECK(call) \
  ::dai::check_cuda((call), #call, __FILE__, __LINE__)
