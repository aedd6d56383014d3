// SPDX-License-Identifier: Apache-2.0
#pragma once

// The arithmetic of the CUDA kernels: who takes which element, how a block
// adds up, and the formulas of one element. Plain functions for host and
// device, so that a test on a CPU walks through a block thread by thread.
//
//   OnlineSoftmax mine;
//   for (i64 i = thread; i < n; i += kBlockThreads) mine = mine.with(row[i]);
//   // then tree_step() over the threads' values, a barrier between two steps

#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define DAI_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define DAI_HOST_DEVICE inline
#endif

namespace dai::intro {

// Threads of a block that reduces a row; a power of two.
inline constexpr int kBlockThreads = 256;
// Rows whose share of rms_norm's weight gradient one block adds up.
inline constexpr int kCudaNormBlock = 16;

// Those rows: block b of norm_blocks(rows) takes [first, last).
struct NormRows {
  std::int64_t first, last;
};

DAI_HOST_DEVICE std::int64_t norm_blocks(std::int64_t rows) {
  return (rows + kCudaNormBlock - 1) / kCudaNormBlock;
}

DAI_HOST_DEVICE NormRows norm_rows(std::int64_t block, std::int64_t rows) {
  const std::int64_t first = block * kCudaNormBlock;
  const std::int64_t last = first + kCudaNormBlock;
  return {first, last < rows ? last : rows};
}

// One step of a sum (or another merge) over a block: values[t] takes in
// values[t + stride] for t < stride. With strides kBlockThreads / 2, ..., 1 and
// a barrier before each, values[0] holds everything, in the same order always.
template <class T, class Merge>
DAI_HOST_DEVICE void tree_step(T* values, int t, int stride, Merge merge) {
  if (t < stride) values[t] = merge(values[t], values[t + stride]);
}

struct AddFloats {
  DAI_HOST_DEVICE float operator()(float a, float b) const { return a + b; }
};

// Largest element and sum of e^(x - largest) so far (arXiv:1805.02867), in one
// pass. A NaN among the elements makes the sum NaN; -inf, a logit that is ruled
// out, adds nothing (e^(-inf - -inf) would be NaN while nothing else is known).
struct OnlineSoftmax {
  float most = -INFINITY;
  float sum = 0;

  DAI_HOST_DEVICE OnlineSoftmax with(float x) const {
    if (x == -INFINITY) return *this;
    if (x > most) return {x, sum * expf(most - x) + 1.0F};
    return {most, sum + expf(x - most)};
  }
};

struct MergeSoftmax {
  DAI_HOST_DEVICE OnlineSoftmax operator()(OnlineSoftmax a,
                                           OnlineSoftmax b) const {
    if (b.sum == 0) return a;  // no element
    if (a.sum == 0) return b;
    const float most = a.most > b.most ? a.most : b.most;
    return {most, a.sum * expf(a.most - most) + b.sum * expf(b.most - most)};
  }
};

DAI_HOST_DEVICE float softmax_loss(OnlineSoftmax all, float at_target) {
  return (all.most - at_target) + logf(all.sum);
}

DAI_HOST_DEVICE float softmax_gradient(OnlineSoftmax all, float x,
                                       bool is_target) {
  return expf(x - all.most) / all.sum - (is_target ? 1.0F : 0.0F);
}

// x's gradient in rms_norm; `dot` is the row's sum of dy weight x.
DAI_HOST_DEVICE float rms_norm_gradient(float dy, float weight, float x,
                                        float inverse_rms, float dot,
                                        std::int64_t hidden) {
  const float s = inverse_rms;
  return dy * weight * s - x * (s * s * s * (dot / static_cast<float>(hidden)));
}

DAI_HOST_DEVICE float sigmoid(float x) {
  return 1.0F / (1.0F + expf(-x));
}

struct SwiGluGradient {
  float dgate, dup;
};

DAI_HOST_DEVICE SwiGluGradient swiglu_gradient(float dout, float gate,
                                               float up) {
  const float s = sigmoid(gate), silu = gate * s;
  return {dout * up * (s + silu * (1.0F - s)), dout * silu};
}

// Where element i of rows of `width` lies when the rows are `stride` apart.
DAI_HOST_DEVICE std::int64_t element_at(std::int64_t i, std::int64_t width,
                                        std::int64_t stride) {
  // A 64-bit division takes a GPU longer than all else that it does with i.
  return stride == width ? i : i / width * stride + i % width;
}

// Strides of [batch, seq, heads, head_dim] in elements, for input and output.
struct RopeShape {
  std::int64_t seq, heads, half;
  std::int64_t x_batch, x_seq, x_head;
  std::int64_t y_batch, y_seq, y_head;
};

// Where pair number `pair` of all lies: the first of its two elements (the
// other is `half` further) and its angle.
struct RopePair {
  std::int64_t x, y, angle;
};

DAI_HOST_DEVICE RopePair rope_pair(const RopeShape& shape, std::int64_t pair) {
  const std::int64_t i = pair % shape.half;
  std::int64_t rest = pair / shape.half;
  const std::int64_t head = rest % shape.heads;
  rest /= shape.heads;
  const std::int64_t s = rest % shape.seq, b = rest / shape.seq;
  return {b * shape.x_batch + s * shape.x_seq + head * shape.x_head + i,
          b * shape.y_batch + s * shape.y_seq + head * shape.y_head + i,
          s * shape.half + i};
}

}  // namespace dai::intro
