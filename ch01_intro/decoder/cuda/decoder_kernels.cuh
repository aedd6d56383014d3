// SPDX-License-Identifier: Apache-2.0
#pragma once

// Launches of the decoder's CUDA kernels on plain device pointers: no torch
// here, so that nvcc never parses its headers. Same meaning as the CPU's
// OpKernels (ch01_intro/decoder/decoder_kernels.h), all rows at once; T is
// float or Bf16. Asynchronous on `stream`; a failed launch throws
// std::runtime_error.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "ch01_intro/decoder/decoder_kernel_math.h"
#include "ch01_intro/decoder/decoder_kernels.h"

namespace dai::intro::cuda {

template <class T>
void rms_norm(const T* x, const float* weight, float eps, T* y,
              float* inverse_rms, std::int64_t rows, std::int64_t hidden,
              cudaStream_t stream);

// dweight_sums [norm_blocks(rows), hidden]: to be added up. dx or
// dweight_sums may be null.
template <class T>
void rms_norm_backward(const T* dy, const T* x, const float* weight,
                       const float* inverse_rms, T* dx, float* dweight_sums,
                       std::int64_t rows, std::int64_t hidden,
                       cudaStream_t stream);

template <class T>
void rope(const T* x, T* y, const float* cos, const float* sin, float sign,
          const RopeShape& shape, std::int64_t pairs, cudaStream_t stream);

// Rows of the same width, `stride` elements apart.
template <class T>
struct Rows {
  const T* first;
  std::int64_t stride;
};

// n elements in all; outputs are contiguous.
template <class T>
void swiglu(Rows<T> gate, Rows<T> up, T* out, std::int64_t width,
            std::int64_t n, cudaStream_t stream);
template <class T>
void swiglu_backward(Rows<T> dout, Rows<T> gate, Rows<T> up, T* dgate, T* dup,
                     std::int64_t width, std::int64_t n, cudaStream_t stream);

template <class T>
void softmax_loss(T* logits, const std::int64_t* target, float* losses,
                  bool gradient, std::int64_t rows, std::int64_t vocab,
                  cudaStream_t stream);

}  // namespace dai::intro::cuda
