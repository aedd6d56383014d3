// SPDX-License-Identifier: Apache-2.0

// The vector kernels, each instruction set that this CPU has, against the same
// formulas in float64. Lengths around the vectors' widths: every tail occurs.

#include "ch01_intro/decoder/decoder_kernels.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <string>

namespace dai::intro {
namespace {

using i64 = std::int64_t;
const std::vector<i64> kLengths{1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 64, 97, 200};

float widened(float x) {
  return x;
}
float widened(Bf16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}
template <class T>
T narrowed(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    return T{
        static_cast<std::uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)};
  }
}

template <class T>
std::vector<T> random_values(i64 n, int seed, float scale = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<T> values(n);
  for (T& value : values) value = narrowed<T>(normal(generator));
  return values;
}

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

// bfloat16 keeps 8 bits of a number, float32 24.
template <class T>
constexpr double kRelative = std::is_same_v<T, float> ? 4e-6 : 1.0 / 256;

template <class T>
void expect_close(T got, double expected, double scale = 1) {
  EXPECT_NEAR(widened(got), expected,
              kRelative<T> * std::max(std::abs(expected), scale));
}

template <class T>
const OpKernels<T>& ops_of(const DecoderKernels& kernels) {
  if constexpr (std::is_same_v<T, float>) return kernels.f32;
  if constexpr (std::is_same_v<T, Bf16>) return kernels.bf16;
}

template <class T>
class Kernels : public ::testing::Test {
 protected:
  // Runs `body` with each level's operations.
  template <class Body>
  void each_level(Body body) {
    for (const DecoderKernels& kernels : decoder_kernels()) {
      SCOPED_TRACE(kernels.name);
      body(ops_of<T>(kernels));
    }
  }
};
using Elements = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(Kernels, Elements);

TEST(DecoderKernels, PortableIsAlwaysThereAndLast) {
  ASSERT_FALSE(decoder_kernels().empty());
  EXPECT_STREQ(decoder_kernels().back().name, "portable");
}

TEST(DecoderKernels, ExponentialIsWithinTwoUlp) {
  std::vector<float> x;
  for (double v = -87.3; v <= 88; v += 0.00171) {
    x.push_back(static_cast<float>(v));
  }
  for (float v = 1e-30F; v < 1; v *= 3) x.insert(x.end(), {v, -v});
  std::vector<float> out(x.size());
  for (const DecoderKernels& kernels : decoder_kernels()) {
    kernels.exp(x.data(), out.data(), static_cast<i64>(x.size()));
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double exact = std::exp(static_cast<double>(x[i]));
      const auto rounded = static_cast<float>(exact);
      const double ulp = std::nextafter(rounded, 3e38F) - rounded;
      worst = std::max(worst, std::abs(out[i] - exact) / ulp);
    }
    RecordProperty(std::string(kernels.name) + "_ulp", std::to_string(worst));
    EXPECT_LE(worst, 2.0) << kernels.name;
  }
}

TEST(DecoderKernels, ExponentialsEdgesAreDefined) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x{0,  -0.0F, -88, -1000, -inf,   88,
                             89, 1000,  inf, nan,   -3e38F, 3e38F};
  std::vector<float> out(x.size());
  for (const DecoderKernels& kernels : decoder_kernels()) {
    SCOPED_TRACE(kernels.name);
    kernels.exp(x.data(), out.data(), static_cast<i64>(x.size()));
    EXPECT_EQ(out[0], 1);
    EXPECT_EQ(out[1], 1);
    for (const int zero : {2, 3, 4, 10}) EXPECT_EQ(out[zero], 0);
    for (const int top : {6, 7, 8, 11}) EXPECT_EQ(out[top], out[5]);
    EXPECT_TRUE(std::isfinite(out[5]));
    EXPECT_TRUE(std::isnan(out[9]));
  }
}

TYPED_TEST(Kernels, RmsNormAndItsGradientAreTheFormulas) {
  using T = TypeParam;
  const i64 rows = 3;
  const float eps = 1e-5F;
  for (const i64 n : kLengths) {
    SCOPED_TRACE(n);
    const auto x = random_values<T>(rows * n, 1);
    const auto dy = random_values<T>(rows * n, 2);
    const auto weight = random_values<float>(n, 3);
    this->each_level([&](const OpKernels<T>& ops) {
      std::vector<T> y(rows * n), dx(rows * n);
      std::vector<float> inverse(rows), dweight(n, -7);
      std::vector<double> expected_dweight(n, 0);
      ops.rms_norm(x.data(), weight.data(), eps, y.data(), inverse.data(), rows,
                   n);
      ops.rms_norm_backward(dy.data(), x.data(), weight.data(), inverse.data(),
                            dx.data(), dweight.data(), rows, n);
      for (i64 r = 0; r < rows; ++r) {
        double squares = 0, dot = 0;
        for (i64 i = r * n; i < (r + 1) * n; ++i) {
          squares += std::pow(widened(x[i]), 2);
          dot += double{widened(dy[i])} * weight[i % n] * widened(x[i]);
        }
        const double s = 1 / std::sqrt(squares / n + eps);
        expect_close<float>(inverse[r], s);
        for (i64 i = r * n; i < (r + 1) * n; ++i) {
          const double v = widened(x[i]), g = widened(dy[i]), w = weight[i % n];
          expect_close<T>(y[i], v * s * w);
          expect_close<T>(dx[i], g * w * s - v * s * s * s * dot / n, 4 * s);
          expected_dweight[i % n] += g * v * s;
        }
      }
      for (i64 i = 0; i < n; ++i) {
        expect_close<float>(dweight[i], expected_dweight[i], 4);
      }
      // Halves that nobody wants are not written.
      auto only_dx = dx;
      ops.rms_norm_backward(dy.data(), x.data(), weight.data(), inverse.data(),
                            only_dx.data(), nullptr, rows, n);
      ops.rms_norm_backward(dy.data(), x.data(), weight.data(), inverse.data(),
                            nullptr, dweight.data(), rows, n);
    });
  }
}

TYPED_TEST(Kernels, RopeRotatesPairsHalfAHeadApart) {
  using T = TypeParam;
  const i64 heads = 3;
  for (const i64 half : {1, 2, 3, 4, 8, 12, 16, 23, 32, 64}) {
    SCOPED_TRACE(half);
    const i64 apart = 2 * half + 5;  // a strided view's heads
    const auto x = random_values<T>(heads * apart, 4);
    std::vector<float> cos(half), sin(half);
    for (i64 i = 0; i < half; ++i) {
      cos[i] = static_cast<float>(std::cos(0.3 * i + 1));
      sin[i] = static_cast<float>(std::sin(0.3 * i + 1));
    }
    this->each_level([&](const OpKernels<T>& ops) {
      std::vector<T> y(heads * 2 * half);
      ops.rope(x.data(), apart, y.data(), 2 * half, cos.data(), sin.data(), 1,
               heads, half);
      for (i64 h = 0; h < heads; ++h) {
        for (i64 i = 0; i < half; ++i) {
          const double a = widened(x[h * apart + i]);
          const double b = widened(x[h * apart + half + i]);
          expect_close<T>(y[h * 2 * half + i], a * cos[i] - b * sin[i]);
          expect_close<T>(y[h * 2 * half + half + i], b * cos[i] + a * sin[i]);
        }
      }
      // In place, and back again.
      ops.rope(y.data(), 2 * half, y.data(), 2 * half, cos.data(), sin.data(),
               -1, heads, half);
      for (i64 h = 0; h < heads; ++h) {
        for (i64 i = 0; i < 2 * half; ++i) {
          EXPECT_NEAR(widened(y[h * 2 * half + i]), widened(x[h * apart + i]),
                      8 * kRelative<T>);
        }
      }
    });
  }
}

TYPED_TEST(Kernels, SwiGluAndItsGradientAreTheFormulas) {
  using T = TypeParam;
  for (const i64 n : kLengths) {
    SCOPED_TRACE(n);
    auto gate = random_values<T>(n, 5, 3);
    gate[0] = narrowed<T>(-200);  // e^200 is no float
    const auto up = random_values<T>(n, 6), dout = random_values<T>(n, 7);
    this->each_level([&](const OpKernels<T>& ops) {
      std::vector<T> out(n), dgate(n), dup(n);
      ops.swiglu(gate.data(), up.data(), out.data(), n);
      ops.swiglu_backward(dout.data(), gate.data(), up.data(), dgate.data(),
                          dup.data(), n);
      for (i64 i = 0; i < n; ++i) {
        const double g = widened(gate[i]), u = widened(up[i]);
        const double d = widened(dout[i]), s = sigmoid(g);
        expect_close<T>(out[i], g * s * u);
        expect_close<T>(dup[i], d * g * s);
        expect_close<T>(dgate[i], d * u * (s + g * s * (1 - s)), 4);
      }
    });
  }
}

TYPED_TEST(Kernels, SoftmaxLossAndItsGradientAreTheFormulas) {
  using T = TypeParam;
  for (const i64 vocab : kLengths) {
    SCOPED_TRACE(vocab);
    const std::vector<i64> target{0, -100, vocab - 1};
    const i64 rows = 3;
    const auto logits = random_values<T>(rows * vocab, 8, 4);
    this->each_level([&](const OpKernels<T>& ops) {
      std::vector<float> losses(rows, -1), again(rows, -1);
      auto only_loss = logits, gradient = logits;
      ops.softmax_loss(only_loss.data(), target.data(), losses.data(), false,
                       rows, vocab);
      ops.softmax_loss(gradient.data(), target.data(), again.data(), true, rows,
                       vocab);
      EXPECT_EQ(losses, again);
      EXPECT_EQ(losses[1], 0);
      for (i64 r = 0; r < rows; ++r) {
        double most = -1e30, sum = 0;
        const T* row = logits.data() + r * vocab;
        for (i64 v = 0; v < vocab; ++v) {
          most = std::max<double>(most, widened(row[v]));
        }
        for (i64 v = 0; v < vocab; ++v) sum += std::exp(widened(row[v]) - most);
        if (target[r] >= 0) {
          expect_close<float>(losses[r],
                              most + std::log(sum) - widened(row[target[r]]));
        }
        for (i64 v = 0; v < vocab; ++v) {
          EXPECT_EQ(widened(only_loss[r * vocab + v]), widened(row[v]));
          const double p = std::exp(widened(row[v]) - most) / sum;
          expect_close<T>(gradient[r * vocab + v],
                          target[r] < 0 ? 0 : p - (v == target[r]));
        }
      }
    });
  }
}

TYPED_TEST(Kernels, NaNGoesThroughWhereverItStands) {
  using T = TypeParam;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const i64 n : {5, 16, 70, 133}) {
    for (i64 at = 0; at < n; ++at) {
      this->each_level([&](const OpKernels<T>& ops) {
        auto row = random_values<T>(n, 9);
        row[at] = T{};
        const auto one = random_values<T>(n, 10);
        const auto weight = random_values<float>(n, 11);
        row[at] = narrowed<T>(nan);
        std::vector<T> out(n);
        float loss = 0, inverse = 0;
        ops.swiglu(row.data(), one.data(), out.data(), n);
        EXPECT_TRUE(std::isnan(widened(out[at])));
        ops.rms_norm(row.data(), weight.data(), 1e-5F, out.data(), &inverse, 1,
                     n);
        EXPECT_TRUE(std::isnan(widened(out[0])));
        const i64 target = 0;
        ops.softmax_loss(row.data(), &target, &loss, true, 1, n);
        EXPECT_TRUE(std::isnan(loss)) << at;
        EXPECT_TRUE(std::isnan(widened(row[n - 1])));
      });
    }
  }
}

}  // namespace
}  // namespace dai::intro
