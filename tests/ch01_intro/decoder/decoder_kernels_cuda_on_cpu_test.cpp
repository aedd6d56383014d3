// SPDX-License-Identifier: Apache-2.0

// The CUDA kernels themselves, run by threads of the CPU, against the CPU's
// portable kernels: odd sizes, both element types, the same bits twice.

#include "ch01_intro/decoder/cuda/decoder_kernels.cu"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace dai::intro {
namespace {

using i64 = std::int64_t;

void put(float& to, float value) {
  to = value;
}
void put(Bf16& to, float value) {
  to.bits = static_cast<std::uint16_t>(std::bit_cast<unsigned>(value) >> 16);
}
float get(float value) {
  return value;
}
float get(Bf16 value) {
  return std::bit_cast<float>(unsigned{value.bits} << 16);
}

template <class T>
std::vector<T> random_values(i64 n, int seed) {
  std::mt19937 generator(1234 + seed);
  std::normal_distribution<float> normal(0, 2);
  std::vector<T> values(n);
  for (T& value : values) put(value, normal(generator));
  return values;
}

template <class T>
class CudaOnCpu : public ::testing::Test {
 protected:
  static constexpr double kWithin = std::is_same_v<T, float> ? 1e-5 : 0.01;
  const OpKernels<T>& cpu() const {
    static const DecoderKernels kernels = decoder_kernels().back();
    if constexpr (std::is_same_v<T, float>) return kernels.f32;
    if constexpr (std::is_same_v<T, Bf16>) return kernels.bf16;
  }
  template <class U>
  static void expect_near(const std::vector<U>& got,
                          const std::vector<U>& expected) {
    double largest = 1;
    for (const U& e : expected) {
      largest = std::max<double>(largest, std::abs(get(e)));
    }
    for (std::size_t i = 0; i < expected.size(); ++i) {
      ASSERT_NEAR(get(got[i]), get(expected[i]), kWithin * largest) << i;
    }
  }
};

struct TypeNames {
  template <class T>
  static std::string GetName(int) {
    return std::is_same_v<T, float> ? "float" : "bfloat16";
  }
};
using Types = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(CudaOnCpu, Types, TypeNames);

TYPED_TEST(CudaOnCpu, RmsNormAndItsGradients) {
  using T = TypeParam;
  for (const i64 hidden : {1, 96, 257}) {
    const i64 rows = kCudaNormBlock + 1, n = rows * hidden;
    const auto x = random_values<T>(n, 1), dy = random_values<T>(n, 2);
    const auto weight = random_values<float>(hidden, 3);
    std::vector<T> y(n), expected_y(n), dx(n), expected_dx(n);
    std::vector<float> inverse(rows), expected_inverse(rows);
    cuda::rms_norm(x.data(), weight.data(), 1e-2F, y.data(), inverse.data(),
                   rows, hidden, nullptr);
    this->cpu().rms_norm(x.data(), weight.data(), 1e-2F, expected_y.data(),
                         expected_inverse.data(), rows, hidden);
    this->expect_near(y, expected_y);
    this->expect_near(inverse, expected_inverse);

    // Nobody clears the sums before the kernel.
    std::vector<float> sums(norm_blocks(rows) * hidden, NAN), dweight(hidden);
    cuda::rms_norm_backward(dy.data(), x.data(), weight.data(), inverse.data(),
                            dx.data(), sums.data(), rows, hidden, nullptr);
    this->cpu().rms_norm_backward(dy.data(), x.data(), weight.data(),
                                  inverse.data(), expected_dx.data(),
                                  dweight.data(), rows, hidden);
    this->expect_near(dx, expected_dx);
    std::vector<float> total(hidden);
    for (std::size_t i = 0; i < sums.size(); ++i) total[i % hidden] += sums[i];
    this->expect_near(total, dweight);

    std::vector<float> again(sums.size(), NAN);
    cuda::rms_norm_backward<T>(dy.data(), x.data(), weight.data(),
                               inverse.data(), nullptr, again.data(), rows,
                               hidden, nullptr);
    EXPECT_EQ(sums, again) << "not the same bits twice";
  }
}

TYPED_TEST(CudaOnCpu, RopeTurnsThereAndBack) {
  using T = TypeParam;
  const i64 batch = 2, seq = 5, heads = 3, half = 4, dim = 2 * half;
  // Heads in rows three times as wide as a head in, contiguous out.
  const RopeShape shape{.seq = seq,
                        .heads = heads,
                        .half = half,
                        .x_batch = seq * heads * 3 * dim,
                        .x_seq = heads * 3 * dim,
                        .x_head = 3 * dim,
                        .y_batch = seq * heads * dim,
                        .y_seq = heads * dim,
                        .y_head = dim};
  const auto x = random_values<T>(batch * shape.x_batch, 4);
  const auto cos = random_values<float>(seq * half, 5);
  const auto sin = random_values<float>(seq * half, 6);
  for (const float sign : {1.0F, -1.0F}) {
    std::vector<T> y(batch * shape.y_batch), expected(y.size());
    cuda::rope(x.data(), y.data(), cos.data(), sin.data(), sign, shape,
               batch * seq * heads * half, nullptr);
    for (i64 row = 0; row < batch * seq; ++row) {
      this->cpu().rope(x.data() + row * shape.x_seq, shape.x_head,
                       expected.data() + row * shape.y_seq, shape.y_head,
                       cos.data() + row % seq * half,
                       sin.data() + row % seq * half, sign, heads, half);
    }
    this->expect_near(y, expected);
  }
}

TYPED_TEST(CudaOnCpu, SwiGluOfSlicesAndItsGradients) {
  using T = TypeParam;
  const i64 rows = 7, width = 43, n = rows * width, both = 2 * width + 1;
  const auto wide = random_values<T>(rows * both, 7);
  const auto dout = random_values<T>(n, 8);
  const cuda::Rows<T> gate{wide.data(), both}, up{wide.data() + width, both};
  std::vector<T> out(n), dgate(n), dup(n), e(n), egate(n), eup(n);
  cuda::swiglu(gate, up, out.data(), width, n, nullptr);
  cuda::swiglu_backward<T>({dout.data(), width}, gate, up, dgate.data(),
                           dup.data(), width, n, nullptr);
  for (i64 r = 0; r < rows; ++r) {
    const T* g = gate.first + r * both;
    const T* u = up.first + r * both;
    const i64 at = r * width;
    this->cpu().swiglu(g, u, e.data() + at, width);
    this->cpu().swiglu_backward(dout.data() + at, g, u, egate.data() + at,
                                eup.data() + at, width);
  }
  this->expect_near(out, e);
  this->expect_near(dgate, egate);
  this->expect_near(dup, eup);
}

TYPED_TEST(CudaOnCpu, SoftmaxLossAndItsGradient) {
  using T = TypeParam;
  for (const i64 vocab : {1, 255, 1000}) {
    const std::vector<i64> target{vocab - 1, -100, 0, vocab / 2};
    const i64 rows = static_cast<i64>(target.size());
    auto logits = random_values<T>(rows * vocab, 9);
    put(logits[3 * vocab], NAN);
    auto expected = logits, kept = logits;
    std::vector<float> losses(rows), expected_losses(rows), alone(rows);
    cuda::softmax_loss(kept.data(), target.data(), alone.data(), false, rows,
                       vocab, nullptr);
    cuda::softmax_loss(logits.data(), target.data(), losses.data(), true, rows,
                       vocab, nullptr);
    this->cpu().softmax_loss(expected.data(), target.data(),
                             expected_losses.data(), true, rows, vocab);
    EXPECT_TRUE(std::isnan(losses[3]));
    EXPECT_EQ(losses[1], 0);
    for (auto* row : {&losses, &expected_losses, &alone}) row->pop_back();
    EXPECT_EQ(losses, alone) << "a gradient on the side changes the loss";
    this->expect_near(losses, expected_losses);
    for (auto* row : {&logits, &expected}) row->resize(3 * vocab);
    this->expect_near(logits, expected);
  }
}

}  // namespace
}  // namespace dai::intro
