// SPDX-License-Identifier: Apache-2.0

// A CUDA block walked through on the CPU: the kernels' own functions, one
// thread after the other between two barriers.

#include "ch01_intro/decoder/decoder_kernel_math.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "ch01_intro/decoder/decoder_kernels.h"

namespace dai::intro {
namespace {

using i64 = std::int64_t;

template <class T, class Merge>
T over_block(std::vector<T> values, Merge merge) {
  for (int stride = kBlockThreads / 2; stride > 0; stride /= 2) {
    for (int t = 0; t < kBlockThreads; ++t) {
      tree_step(values.data(), t, stride, merge);
    }
  }
  return values[0];
}

OnlineSoftmax softmax_of(const std::vector<float>& row) {
  std::vector<OnlineSoftmax> threads(kBlockThreads);
  for (int t = 0; t < kBlockThreads; ++t) {
    for (std::size_t i = t; i < row.size(); i += kBlockThreads) {
      threads[t] = threads[t].with(row[i]);
    }
  }
  return over_block(threads, MergeSoftmax{});
}

std::vector<float> random_values(i64 n, int seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> values(n);
  for (float& value : values) value = normal(generator);
  return values;
}

TEST(DecoderKernelMath, TreeTakesInEveryThreadOnce) {
  std::vector<float> values(kBlockThreads);
  for (int t = 0; t < kBlockThreads; ++t) values[t] = static_cast<float>(t);
  EXPECT_EQ(over_block(values, AddFloats{}),
            kBlockThreads * (kBlockThreads - 1) / 2);
}

TEST(DecoderKernelMath, OnlineSoftmaxIsThePortableKernels) {
  const OpKernels<float> portable = decoder_kernels().back().f32;
  for (const i64 vocab : {1, 2, 255, 256, 257, 5000}) {
    auto row = random_values(vocab, 1);
    const i64 target = vocab / 2;
    const OnlineSoftmax all = softmax_of(row);
    auto gradient = row;
    float loss = 0;
    portable.softmax_loss(gradient.data(), &target, &loss, true, 1, vocab);
    EXPECT_NEAR(softmax_loss(all, row[target]), loss, 2e-5) << vocab;
    for (i64 i = 0; i < vocab; ++i) {
      EXPECT_NEAR(softmax_gradient(all, row[i], i == target), gradient[i],
                  3e-6);
    }
  }
}

TEST(DecoderKernelMath, OnlineSoftmaxKeepsNaNWhereverItStands) {
  for (i64 at = 0; at < 300; ++at) {
    auto row = random_values(300, 2);
    row[at] = NAN;
    EXPECT_TRUE(std::isnan(softmax_loss(softmax_of(row), row[7]))) << at;
  }
}

// A logit of -inf is a token that is ruled out; whole threads may hold nothing
// else, and the first element of each.
TEST(DecoderKernelMath, OnlineSoftmaxPassesOverMinusInfinity) {
  const OpKernels<float> portable = decoder_kernels().back().f32;
  const i64 vocab = 700, target = 699;
  for (const i64 kept_every : {2, 3, kBlockThreads, 600}) {
    auto row = random_values(vocab, 6);
    for (i64 i = 0; i < vocab; ++i) {
      if (i % kept_every != kept_every - 1) row[i] = -INFINITY;
    }
    row[target] = 1;
    const OnlineSoftmax all = softmax_of(row);
    auto gradient = row;
    float loss = 0;
    portable.softmax_loss(gradient.data(), &target, &loss, true, 1, vocab);
    ASSERT_TRUE(std::isfinite(loss));
    EXPECT_NEAR(softmax_loss(all, row[target]), loss, 2e-5) << kept_every;
    for (i64 i = 0; i < vocab; ++i) {
      EXPECT_NEAR(softmax_gradient(all, row[i], i == target), gradient[i],
                  3e-6);
    }
  }
  const OnlineSoftmax nothing = softmax_of(std::vector<float>(9, -INFINITY));
  EXPECT_TRUE(std::isnan(softmax_loss(nothing, -INFINITY)));
}

TEST(DecoderKernelMath, BlocksOfRowsMeetAndCoverAll) {
  for (const i64 rows : {0, 1, 15, 16, 17, 32, 1000}) {
    i64 next = 0;
    for (i64 block = 0; block < norm_blocks(rows); ++block) {
      const NormRows mine = norm_rows(block, rows);
      EXPECT_EQ(mine.first, next);
      EXPECT_GT(mine.last, mine.first);
      EXPECT_LE(mine.last - mine.first, kCudaNormBlock);
      next = mine.last;
    }
    EXPECT_EQ(next, rows);
  }
}

TEST(DecoderKernelMath, ElementsOfRowsThatLieApart) {
  for (const i64 width : {1, 5, 40}) {
    for (const i64 stride : {width, width + 3, i64{0}}) {
      for (i64 i = 0; i < 4 * width; ++i) {
        EXPECT_EQ(element_at(i, width, stride), i / width * stride + i % width);
      }
    }
  }
}

TEST(DecoderKernelMath, GradientsAreThePortableKernels) {
  const OpKernels<float> portable = decoder_kernels().back().f32;
  const i64 n = 300;
  const auto x = random_values(n, 3), dy = random_values(n, 4);
  const auto weight = random_values(n, 5);
  std::vector<float> y(n), dx(n), dweight(n), dgate(n), dup(n);
  float inverse = 0;
  portable.rms_norm(x.data(), weight.data(), 1e-5F, y.data(), &inverse, 1, n);
  portable.rms_norm_backward(dy.data(), x.data(), weight.data(), &inverse,
                             dx.data(), dweight.data(), 1, n);
  portable.swiglu_backward(dy.data(), x.data(), weight.data(), dgate.data(),
                           dup.data(), n);
  float dot = 0;
  for (i64 i = 0; i < n; ++i) dot += dy[i] * weight[i] * x[i];
  for (i64 i = 0; i < n; ++i) {
    EXPECT_NEAR(rms_norm_gradient(dy[i], weight[i], x[i], inverse, dot, n),
                dx[i], 1e-4);
    const SwiGluGradient g = swiglu_gradient(dy[i], x[i], weight[i]);
    EXPECT_NEAR(g.dgate, dgate[i], 1e-4);
    EXPECT_NEAR(g.dup, dup[i], 1e-4);
  }
}

TEST(DecoderKernelMath, RopePairsCoverEachElementOnce) {
  // Output as [batch, heads, seq, head_dim] in memory, input as a slice.
  const i64 batch = 2, seq = 5, heads = 3, half = 4, dim = 2 * half;
  const RopeShape shape{.seq = seq,
                        .heads = heads,
                        .half = half,
                        .x_batch = seq * heads * 3 * dim,
                        .x_seq = heads * 3 * dim,
                        .x_head = 3 * dim,
                        .y_batch = heads * seq * dim,
                        .y_seq = dim,
                        .y_head = seq * dim};
  const i64 pairs = batch * seq * heads * half;
  std::vector<int> written(2 * pairs);
  for (i64 pair = 0; pair < pairs; ++pair) {
    const RopePair p = rope_pair(shape, pair);
    ++written.at(p.y);
    ++written.at(p.y + half);
    // Input and output name the same (batch, position, head, element).
    const i64 in_batch = p.x / shape.x_batch, out_batch = p.y / shape.y_batch;
    const i64 position = p.x % shape.x_batch / shape.x_seq;
    EXPECT_EQ(in_batch, out_batch);
    EXPECT_EQ(position, p.y % shape.y_head / dim);
    EXPECT_EQ(p.x % shape.x_seq / shape.x_head,
              p.y % shape.y_batch / shape.y_head);
    EXPECT_EQ(p.x % shape.x_head, p.y % dim);
    EXPECT_EQ(p.angle, position * half + p.y % dim);
  }
  EXPECT_EQ(std::count(written.begin(), written.end(), 1), 2 * pairs);
}

}  // namespace
}  // namespace dai::intro
