// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/decoder/cuda/decoder_kernels.cuh"

#include <algorithm>

#include "common/torch/cuda/cuda_check.h"

namespace dai::intro::cuda {
namespace {

using i64 = std::int64_t;

__device__ float load(const float* p) {
  return *p;
}
__device__ float load(const Bf16* p) {
  return __uint_as_float(static_cast<unsigned>(p->bits) << 16);
}
__device__ void store(float* p, float v) {
  *p = v;
}
// Round to nearest even; a NaN stays one. As on the CPU.
__device__ void store(Bf16* p, float v) {
  const unsigned bits = __float_as_uint(v);
  const unsigned kept =
      v == v ? bits + 0x7FFFu + ((bits >> 16) & 1u) : bits | 0x400000u;
  p->bits = static_cast<std::uint16_t>(kept >> 16);
}

// Every thread's value merged, handed to every thread.
template <class T, class Merge>
__device__ T over_block(T mine, T* shared, Merge merge) {
  const int t = static_cast<int>(threadIdx.x);
  shared[t] = mine;
  for (int stride = kBlockThreads / 2; stride > 0; stride /= 2) {
    __syncthreads();
    tree_step(shared, t, stride, merge);
  }
  __syncthreads();
  const T all = shared[0];
  __syncthreads();  // the next use may overwrite it
  return all;
}

template <class T>
__global__ void rms_norm_kernel(const T* x, const float* weight, float eps,
                                T* y, float* inverse_rms, i64 hidden) {
  __shared__ float shared[kBlockThreads];
  const i64 row = blockIdx.x;
  x += row * hidden;
  y += row * hidden;
  float squares = 0;
  for (i64 i = threadIdx.x; i < hidden; i += kBlockThreads) {
    const float v = load(x + i);
    squares += v * v;
  }
  squares = over_block(squares, shared, AddFloats{});
  const float s = 1.0F / sqrtf(squares / static_cast<float>(hidden) + eps);
  if (threadIdx.x == 0) inverse_rms[row] = s;
  for (i64 i = threadIdx.x; i < hidden; i += kBlockThreads) {
    store(y + i, load(x + i) * s * weight[i]);
  }
}

// A column's share of dweight belongs to one thread through all rows of the
// block: no atomics, one order of addition.
template <class T>
__global__ void rms_norm_backward_kernel(const T* dy, const T* x,
                                         const float* weight,
                                         const float* inverse_rms, T* dx,
                                         float* dweight_sums, i64 rows,
                                         i64 hidden) {
  __shared__ float shared[kBlockThreads];
  const NormRows mine = norm_rows(blockIdx.x, rows);
  float* sums = dweight_sums ? dweight_sums + blockIdx.x * hidden : nullptr;
  for (i64 row = mine.first; row < mine.last; ++row) {
    const i64 at = row * hidden;
    const float s = inverse_rms[row];
    float dot = 0;
    if (dx) {  // the same for the whole block
      for (i64 i = threadIdx.x; i < hidden; i += kBlockThreads) {
        dot += load(dy + at + i) * weight[i] * load(x + at + i);
      }
      dot = over_block(dot, shared, AddFloats{});
    }
    for (i64 i = threadIdx.x; i < hidden; i += kBlockThreads) {
      const float g = load(dy + at + i), v = load(x + at + i);
      if (sums) sums[i] = (row == mine.first ? 0.0F : sums[i]) + g * (v * s);
      if (dx) {
        store(dx + at + i, rms_norm_gradient(g, weight[i], v, s, dot, hidden));
      }
    }
  }
}

template <class T>
__global__ void rope_kernel(const T* x, T* y, const float* cos,
                            const float* sin, float sign, RopeShape shape,
                            i64 pairs) {
  const i64 pair = i64{blockIdx.x} * kBlockThreads + threadIdx.x;
  if (pair >= pairs) return;
  const RopePair p = rope_pair(shape, pair);
  const float c = cos[p.angle], s = sin[p.angle] * sign;
  const float a = load(x + p.x), b = load(x + p.x + shape.half);
  store(y + p.y, a * c - b * s);
  store(y + p.y + shape.half, b * c + a * s);
}

template <class T>
__global__ void swiglu_kernel(Rows<T> gate, Rows<T> up, T* out, i64 width,
                              i64 n) {
  const i64 i = i64{blockIdx.x} * kBlockThreads + threadIdx.x;
  if (i >= n) return;
  const float g = load(gate.first + element_at(i, width, gate.stride));
  const float u = load(up.first + element_at(i, width, up.stride));
  store(out + i, g * sigmoid(g) * u);
}

template <class T>
__global__ void swiglu_backward_kernel(Rows<T> dout, Rows<T> gate, Rows<T> up,
                                       T* dgate, T* dup, i64 width, i64 n) {
  const i64 i = i64{blockIdx.x} * kBlockThreads + threadIdx.x;
  if (i >= n) return;
  const SwiGluGradient g =
      swiglu_gradient(load(dout.first + element_at(i, width, dout.stride)),
                      load(gate.first + element_at(i, width, gate.stride)),
                      load(up.first + element_at(i, width, up.stride)));
  store(dgate + i, g.dgate);
  store(dup + i, g.dup);
}

template <class T>
__global__ void softmax_loss_kernel(T* logits, const i64* target, float* losses,
                                    bool gradient, i64 vocab) {
  __shared__ OnlineSoftmax shared[kBlockThreads];
  const i64 row = blockIdx.x, own = target[row];
  logits += row * vocab;
  if (own < 0) {  // ignored: the same for the whole block
    if (threadIdx.x == 0) losses[row] = 0;
    if (!gradient) return;
    for (i64 i = threadIdx.x; i < vocab; i += kBlockThreads) {
      store(logits + i, 0.0F);
    }
    return;
  }
  OnlineSoftmax mine{-INFINITY, 0};
  for (i64 i = threadIdx.x; i < vocab; i += kBlockThreads) {
    mine = mine.with(load(logits + i));
  }
  const OnlineSoftmax all = over_block(mine, shared, MergeSoftmax{});
  if (threadIdx.x == 0) losses[row] = softmax_loss(all, load(logits + own));
  if (!gradient) return;
  __syncthreads();  // the target's logit is read before it is overwritten
  for (i64 i = threadIdx.x; i < vocab; i += kBlockThreads) {
    store(logits + i, softmax_gradient(all, load(logits + i), i == own));
  }
}

unsigned blocks_for(i64 n, i64 each) {
  return static_cast<unsigned>((n + each - 1) / each);
}

}  // namespace

// A grid of no blocks is an error to CUDA, no work to us. A test on the CPU
// brings a launch of its own: tests/support/cuda_on_cpu.
#ifndef DAI_LAUNCH_KERNEL
#define DAI_LAUNCH_KERNEL(kernel, blocks, ...)                  \
  do {                                                          \
    if (const unsigned count = (blocks)) {                      \
      kernel<<<count, kBlockThreads, 0, stream>>>(__VA_ARGS__); \
      DAI_CUDA_CHECK(cudaGetLastError());                       \
    }                                                           \
  } while (false)
#endif

template <class T>
void rms_norm(const T* x, const float* weight, float eps, T* y,
              float* inverse_rms, i64 rows, i64 hidden, cudaStream_t stream) {
  DAI_LAUNCH_KERNEL(rms_norm_kernel, blocks_for(rows, 1), x, weight, eps, y,
                    inverse_rms, hidden);
}

template <class T>
void rms_norm_backward(const T* dy, const T* x, const float* weight,
                       const float* inverse_rms, T* dx, float* dweight_sums,
                       i64 rows, i64 hidden, cudaStream_t stream) {
  DAI_LAUNCH_KERNEL(rms_norm_backward_kernel, blocks_for(norm_blocks(rows), 1),
                    dy, x, weight, inverse_rms, dx, dweight_sums, rows, hidden);
}

template <class T>
void rope(const T* x, T* y, const float* cos, const float* sin, float sign,
          const RopeShape& shape, i64 pairs, cudaStream_t stream) {
  DAI_LAUNCH_KERNEL(rope_kernel, blocks_for(pairs, kBlockThreads), x, y, cos,
                    sin, sign, shape, pairs);
}

template <class T>
void swiglu(Rows<T> gate, Rows<T> up, T* out, i64 width, i64 n,
            cudaStream_t stream) {
  DAI_LAUNCH_KERNEL(swiglu_kernel, blocks_for(n, kBlockThreads), gate, up, out,
                    width, n);
}

template <class T>
void swiglu_backward(Rows<T> dout, Rows<T> gate, Rows<T> up, T* dgate, T* dup,
                     i64 width, i64 n, cudaStream_t stream) {
  DAI_LAUNCH_KERNEL(swiglu_backward_kernel, blocks_for(n, kBlockThreads), dout,
                    gate, up, dgate, dup, width, n);
}

template <class T>
void softmax_loss(T* logits, const i64* target, float* losses, bool gradient,
                  i64 rows, i64 vocab, cudaStream_t stream) {
  DAI_LAUNCH_KERNEL(softmax_loss_kernel, blocks_for(rows, 1), logits, target,
                    losses, gradient, vocab);
}

#define DAI_INSTANTIATE(T)                                                    \
  template void rms_norm(const T*, const float*, float, T*, float*, i64, i64, \
                         cudaStream_t);                                       \
  template void rms_norm_backward(const T*, const T*, const float*,           \
                                  const float*, T*, float*, i64, i64,         \
                                  cudaStream_t);                              \
  template void rope(const T*, T*, const float*, const float*, float,         \
                     const RopeShape&, i64, cudaStream_t);                    \
  template void swiglu(Rows<T>, Rows<T>, T*, i64, i64, cudaStream_t);         \
  template void swiglu_backward(Rows<T>, Rows<T>, Rows<T>, T*, T*, i64, i64,  \
                                cudaStream_t);                                \
  template void softmax_loss(T*, const i64*, float*, bool, i64, i64,          \
                             cudaStream_t);
DAI_INSTANTIATE(float)
DAI_INSTANTIATE(Bf16)

}  // namespace dai::intro::cuda
