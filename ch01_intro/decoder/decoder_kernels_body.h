// SPDX-License-Identifier: Apache-2.0

// The loops of decoder_kernels.h, for vectors of DAI_VECTOR_BYTES: included
// once by each decoder_kernels_*.cpp, which is compiled for one instruction
// set. Nothing here may be shared with other files: an inline function of a
// standard header, compiled for AVX-512, could be the copy that the linker
// keeps for all, on a CPU without it. Hence builtins in place of the standard
// library, and internal linkage for everything but the table.

#include "ch01_intro/decoder/decoder_kernels.h"

namespace dai::intro {
namespace {

using i64 = std::int64_t;

// The compiler's own vectors: they mean the same on every architecture.
template <int W>
struct Vec {
  typedef float F __attribute__((vector_size(W * 4)));
  typedef std::int32_t I __attribute__((vector_size(W * 4)));
  typedef std::uint32_t U __attribute__((vector_size(W * 4)));
  typedef std::uint16_t H __attribute__((vector_size(W * 2)));
};
constexpr int kWidth = DAI_VECTOR_BYTES / 4;
using F = Vec<kWidth>::F;
using I = Vec<kWidth>::I;

// memcpy of a whole vector is one unaligned move.
template <int W>
inline typename Vec<W>::F load(const float* p) {
  typename Vec<W>::F v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <int W>
inline typename Vec<W>::F load(const Bf16* p) {
  typename Vec<W>::H h;
  __builtin_memcpy(&h, p, sizeof h);
  return (typename Vec<W>::F)(__builtin_convertvector(h, typename Vec<W>::U)
                              << 16);
}

template <int W>
inline void store(float* p, typename Vec<W>::F v) {
  __builtin_memcpy(p, &v, sizeof v);
}

// Round to nearest even; a NaN keeps its top bits and stays one.
template <int W>
inline void store(Bf16* p, typename Vec<W>::F v) {
  const auto bits = (typename Vec<W>::U)v;
  const auto rounded = bits + 0x7FFFu + ((bits >> 16) & 1u);
  const auto kept = v == v ? rounded : (bits | 0x400000u);
  const auto h = __builtin_convertvector(kept >> 16, typename Vec<W>::H);
  __builtin_memcpy(p, &h, sizeof h);
}

// The last n < kWidth elements of a row; the other lanes are `fill`.
template <class T>
inline F load_tail(const T* p, i64 n, float fill = 0) {
  float lanes[kWidth];
  for (i64 i = 0; i < kWidth; ++i) lanes[i] = fill;
  for (i64 i = 0; i < n; ++i) lanes[i] = load<1>(p + i)[0];
  return load<kWidth>(lanes);
}

template <class T>
inline void store_tail(T* p, F v, i64 n) {
  T lanes[kWidth];
  store<kWidth>(lanes, v);
  for (i64 i = 0; i < n; ++i) p[i] = lanes[i];
}

inline F splat(float x) {
  return x - F{};  // x in each lane, -0 as well
}

inline float sum(F v) {
  float total = 0;
  for (int i = 0; i < kWidth; ++i) total += v[i];
  return total;
}

// e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln 2 / 2: e^r is Cephes'
// polynomial (expf.c), 2^n goes straight into the exponent's bits.
inline F exp(F x) {
  const F in = x > 88.0f ? splat(88.0f) : x;  // a NaN passes comparisons by
  const F shifted = in * 1.44269504088896341f + 12582912.0f;  // 1.5 x 2^23
  const F n = shifted - 12582912.0f;
  F r = in - n * 0.693359375f;  // ln 2 in two parts: the first exactly
  r = r - n * -2.12194440e-4f;
  F p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // Lanes that are set to 0 below, or NaN, may hold any n: hence unsigned.
  using U = Vec<kWidth>::U;
  const U power = ((U)shifted - 0x4B400000u + 127u) << 23;
  const F result = p * (F)power;
  return in < -87.33654f ? F{} : result;
}

// Reciprocal of 1 + e^-x.
inline F sigmoid(F x) {
  return 1.0f / (1.0f + exp(-x));
}

void exp_array(const float* x, float* out, i64 n) {
  i64 i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    store<kWidth>(out + i, exp(load<kWidth>(x + i)));
  }
  if (i < n) store_tail(out + i, exp(load_tail(x + i, n - i)), n - i);
}

template <class T>
void rms_norm(const T* x, const float* weight, float eps, T* y,
              float* inverse_rms, i64 rows, i64 hidden) {
  for (i64 row = 0; row < rows; ++row, x += hidden, y += hidden) {
    F squares{};
    i64 i = 0;
    for (; i + kWidth <= hidden; i += kWidth) {
      const F v = load<kWidth>(x + i);
      squares += v * v;
    }
    if (i < hidden) {
      const F v = load_tail(x + i, hidden - i);
      squares += v * v;
    }
    const float mean = sum(squares) / static_cast<float>(hidden);
    const float scale = 1.0f / __builtin_sqrtf(mean + eps);
    inverse_rms[row] = scale;
    for (i = 0; i + kWidth <= hidden; i += kWidth) {
      store<kWidth>(y + i,
                    load<kWidth>(x + i) * scale * load<kWidth>(weight + i));
    }
    if (const i64 n = hidden - i) {
      store_tail(y + i, load_tail(x + i, n) * scale * load_tail(weight + i, n),
                 n);
    }
  }
}

// With s = inverse_rms and g = dy weight: dx = s g - x s^3 mean(g x), because
// s itself depends on x; dweight = sum of dy x s over the rows.
template <class T>
void rms_norm_backward(const T* dy, const T* x, const float* weight,
                       const float* inverse_rms, T* dx, float* dweight,
                       i64 rows, i64 hidden) {
  if (dweight) __builtin_memset(dweight, 0, sizeof(float) * hidden);
  for (i64 row = 0; row < rows; ++row, dy += hidden, x += hidden) {
    F dots{};
    i64 i = 0;
    for (; i + kWidth <= hidden; i += kWidth) {
      dots +=
          load<kWidth>(dy + i) * load<kWidth>(weight + i) * load<kWidth>(x + i);
    }
    if (const i64 n = hidden - i) {
      dots +=
          load_tail(dy + i, n) * load_tail(weight + i, n) * load_tail(x + i, n);
    }
    const float s = inverse_rms[row];
    const float c = s * s * s * (sum(dots) / static_cast<float>(hidden));
    for (i = 0; i + kWidth <= hidden; i += kWidth) {
      const F g = load<kWidth>(dy + i), v = load<kWidth>(x + i);
      if (dweight) {
        store<kWidth>(dweight + i, load<kWidth>(dweight + i) + g * (v * s));
      }
      if (dx) {
        store<kWidth>(dx + i, g * load<kWidth>(weight + i) * s - v * c);
      }
    }
    if (const i64 n = hidden - i) {
      const F g = load_tail(dy + i, n), v = load_tail(x + i, n);
      if (dweight) {
        store_tail(dweight + i, load_tail(dweight + i, n) + g * (v * s), n);
      }
      if (dx) {
        store_tail(dx + i, g * load_tail(weight + i, n) * s - v * c, n);
      }
    }
    if (dx) dx += hidden;
  }
}

// As many whole vectors of W as fit between i and half; heads are the inner
// loop, so that an angle is loaded once for all of them.
template <int W, class T>
inline i64 rotate(const T* x, i64 x_head, T* y, i64 y_head, const float* cos,
                  const float* sin, float sign, i64 heads, i64 half, i64 i) {
  for (; i + W <= half; i += W) {
    const auto c = load<W>(cos + i);
    const auto s = load<W>(sin + i) * sign;
    const T* from = x + i;
    T* to = y + i;
    for (i64 h = 0; h < heads; ++h, from += x_head, to += y_head) {
      const auto a = load<W>(from), b = load<W>(from + half);
      store<W>(to, a * c - b * s);
      store<W>(to + half, b * c + a * s);
    }
  }
  return i;
}

// Heads are short (16 to 128): narrower vectors take what is left over.
template <class T>
void rope(const T* x, i64 x_head, T* y, i64 y_head, const float* cos,
          const float* sin, float sign, i64 heads, i64 half) {
  i64 i = 0;
  const auto run = [&]<int W>() {
    i = rotate<W>(x, x_head, y, y_head, cos, sin, sign, heads, half, i);
  };
  if constexpr (kWidth >= 16) run.template operator()<16>();
  if constexpr (kWidth >= 8) run.template operator()<8>();
  run.template operator()<4>();
  run.template operator()<1>();
}

template <class T>
void swiglu(const T* gate, const T* up, T* out, i64 n) {
  i64 i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const F g = load<kWidth>(gate + i);
    store<kWidth>(out + i, g * sigmoid(g) * load<kWidth>(up + i));
  }
  if (i < n) {
    const F g = load_tail(gate + i, n - i);
    store_tail(out + i, g * sigmoid(g) * load_tail(up + i, n - i), n - i);
  }
}

// silu'(g) = s + g s (1 - s) with s = sigmoid(g)
template <class T>
void swiglu_backward(const T* dout, const T* gate, const T* up, T* dgate,
                     T* dup, i64 n) {
  i64 i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const F d = load<kWidth>(dout + i), g = load<kWidth>(gate + i);
    const F s = sigmoid(g), silu = g * s;
    const F slope = s + silu * (1.0f - s);
    store<kWidth>(dgate + i, d * load<kWidth>(up + i) * slope);
    store<kWidth>(dup + i, d * silu);
  }
  if (const i64 m = n - i) {
    const F d = load_tail(dout + i, m), g = load_tail(gate + i, m);
    const F s = sigmoid(g), silu = g * s;
    const F slope = s + silu * (1.0f - s);
    store_tail(dgate + i, d * load_tail(up + i, m) * slope, m);
    store_tail(dup + i, d * silu, m);
  }
}

// Largest element of a row. NaNs may be passed over: they come out of the
// exponentials that follow.
template <class T>
float row_max(const T* row, i64 n) {
  const float lowest = -__builtin_huge_valf();
  const auto larger = [](F a, F b) { return a > b ? a : b; };
  F most[4] = {splat(lowest), splat(lowest), splat(lowest), splat(lowest)};
  i64 i = 0;
  for (; i + 4 * kWidth <= n; i += 4 * kWidth) {
    for (int k = 0; k < 4; ++k) {
      most[k] = larger(most[k], load<kWidth>(row + i + k * kWidth));
    }
  }
  for (; i < n; i += kWidth) {
    most[0] =
        larger(most[0], n - i >= kWidth ? load<kWidth>(row + i)
                                        : load_tail(row + i, n - i, lowest));
  }
  const F all = larger(larger(most[0], most[1]), larger(most[2], most[3]));
  float result = lowest;
  for (int k = 0; k < kWidth; ++k) result = all[k] > result ? all[k] : result;
  return result;
}

template <class T>
void softmax_loss(T* logits, const i64* target, float* losses, bool gradient,
                  i64 rows, i64 vocab) {
  for (i64 r = 0; r < rows; ++r, logits += vocab) {
    if (target[r] < 0) {
      losses[r] = 0;
      if (gradient) __builtin_memset(logits, 0, sizeof(T) * vocab);
      continue;
    }
    const float most = row_max(logits, vocab);
    const float own = load<1>(logits + target[r])[0];
    F sums{};
    i64 i = 0;
    for (; i + kWidth <= vocab; i += kWidth) {
      sums += exp(load<kWidth>(logits + i) - most);
    }
    if (i < vocab) {
      // e^-inf = 0: lanes past the end add nothing.
      sums +=
          exp(load_tail(logits + i, vocab - i, -__builtin_huge_valf()) - most);
    }
    const float total = sum(sums);
    losses[r] = (most - own) + __builtin_logf(total);
    if (!gradient) continue;
    // The exponentials again rather than kept: bfloat16 could not hold them.
    const float scale = 1.0f / total;
    for (i = 0; i + kWidth <= vocab; i += kWidth) {
      store<kWidth>(logits + i, exp(load<kWidth>(logits + i) - most) * scale);
    }
    if (const i64 n = vocab - i) {
      store_tail(logits + i, exp(load_tail(logits + i, n) - most) * scale, n);
    }
    T* at_target = logits + target[r];
    store<1>(at_target, load<1>(at_target) - 1.0f);
  }
}

template <class T>
constexpr OpKernels<T> kOps{
    rms_norm<T>, rms_norm_backward<T>, rope<T>,
    swiglu<T>,   swiglu_backward<T>,   softmax_loss<T>,
};

}  // namespace

extern const DecoderKernels DAI_KERNELS;
const DecoderKernels DAI_KERNELS{DAI_KERNELS_NAME, kOps<float>, kOps<Bf16>,
                                 exp_array};

}  // namespace dai::intro
