// SPDX-License-Identifier: Apache-2.0
#pragma once

// Stands in for the toolkit's header so that a .cu file compiles as C++ and its
// kernels run on the CPU: no GPU, no nvcc, and under the sanitizers as well,
// which then see a kernel's bad index or its race. A test puts this folder
// first on its include path and includes the .cu file itself:
//
//   #include "ch01_intro/decoder/cuda/decoder_kernels.cu"
//   rms_norm(x, weight, eps, y, inverse, rows, hidden, /*stream=*/nullptr);
//
// A launch is done when it returns. Every CUDA thread is a thread, all of a
// block at once and the blocks one after the other: right for kernels whose
// blocks do not wait for each other, slow for all. A thread that has returned
// is no longer waited for at __syncthreads(), as on a GPU. No warp functions,
// no dynamic shared memory. The host's expf and rounding, not the device's.

#include <algorithm>
#include <barrier>
#include <bit>
#include <cmath>
#include <cstdint>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess };
inline cudaError_t cudaGetLastError() {
  return cudaSuccess;
}
inline const char* cudaGetErrorString(cudaError_t) {
  return "no error";
}
inline const char* cudaGetErrorName(cudaError_t) {
  return "cudaSuccess";
}

#define __global__
#define __device__
#define __shared__ static  // one block at a time: its own until the next one

struct dim3 {
  unsigned x = 0, y = 0, z = 0;
};
inline thread_local dim3 threadIdx, blockIdx;

namespace dai::testing {

// Of this thread's block; null outside of a kernel.
inline thread_local std::barrier<>* block_barrier = nullptr;

inline void launch(unsigned blocks, int threads,
                   const std::function<void()>& kernel) {
  std::deque<std::barrier<>> in_block;
  for (unsigned b = 0; b < blocks; ++b) in_block.emplace_back(threads);
  std::barrier between_blocks(threads);
  std::vector<std::thread> running;
  for (int t = 0; t < threads; ++t) {
    running.emplace_back([&, t] {
      threadIdx.x = static_cast<unsigned>(t);
      for (unsigned b = 0; b < blocks; ++b) {
        blockIdx.x = b;
        block_barrier = &in_block[b];
        kernel();
        block_barrier->arrive_and_drop();
        between_blocks.arrive_and_wait();
      }
    });
  }
  for (std::thread& thread : running) thread.join();
}

}  // namespace dai::testing

inline void __syncthreads() {
  dai::testing::block_barrier->arrive_and_wait();
}
inline float __uint_as_float(unsigned bits) {
  return std::bit_cast<float>(bits);
}
inline unsigned __float_as_uint(float value) {
  return std::bit_cast<unsigned>(value);
}

#define DAI_LAUNCH_KERNEL(kernel, blocks, ...)          \
  do {                                                  \
    (void)stream;                                       \
    dai::testing::launch((blocks), kBlockThreads,       \
                         [&] { kernel(__VA_ARGS__); }); \
  } while (false)
