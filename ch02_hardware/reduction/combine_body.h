// SPDX-License-Identifier: Apache-2.0

// The loops of combine.h. Included by combine_avx2.cpp and
// combine_portable.cpp, each inside a namespace of its own that the including
// file opens, since the compiler makes other code of them there. No include
// guard, no include: everything in here must stay inside that namespace.

struct Bf16 {
  using Memory = std::uint16_t;
  using Number = float;
  static float load(Memory m) { return from_bf16(m); }
  static Memory store(float x) { return to_bf16(x); }
};
struct Fp16 {
  using Memory = std::uint16_t;
  using Number = float;
#ifdef __F16C__
  static float load(Memory m) { return _cvtsh_ss(m); }
  static Memory store(float x) { return _cvtss_sh(x, 0); }
#else
  static float load(Memory m) { return from_fp16(m); }
  static Memory store(float x) { return to_fp16(x); }
#endif
};
template <class T>
struct Plain {
  using Memory = T;
  using Number = T;
  static T load(T m) { return m; }
  static T store(T x) { return x; }
};

template <class T>
struct Add {
  static T apply(T a, T b) {
    if constexpr (std::is_integral_v<T>) {  // wraps instead of undefined
      using U = std::common_type_t<std::make_unsigned_t<T>, unsigned>;
      return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
    } else {
      return a + b;
    }
  }
};
template <class T>
struct Multiply {
  static T apply(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      using U = std::common_type_t<std::make_unsigned_t<T>, unsigned>;
      return static_cast<T>(static_cast<U>(a) * static_cast<U>(b));
    } else {
      return a * b;
    }
  }
};
template <class T>
struct Min {
  static T apply(T a, T b) { return a < b || a != a ? a : b; }
};
template <class T>
struct Max {
  static T apply(T a, T b) { return a > b || a != a ? a : b; }
};

// Loads and stores go through memcpy: the arrays may be unaligned.
template <class Element>
typename Element::Number load(const char* from) {
  typename Element::Memory memory;
  std::memcpy(&memory, from, sizeof memory);
  return Element::load(memory);
}
template <class Element>
void store(char* to, typename Element::Number number) {
  const typename Element::Memory memory = Element::store(number);
  std::memcpy(to, &memory, sizeof memory);
}

template <class Element, template <class> class Op>
void combine_all(char* into, const char* a, const char* b, std::size_t count) {
  constexpr std::size_t size = sizeof(typename Element::Memory);
  std::size_t i = 0;
#ifdef __F16C__
  if constexpr (std::is_same_v<Element, Fp16>) {  // no loop is vectorised so
    for (; i + 8 <= count; i += 8) {
      const auto in = [&](const char* from) {
        return _mm256_cvtph_ps(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i * size)));
      };
      alignas(32) float x[8], y[8];
      _mm256_store_ps(x, in(a));
      _mm256_store_ps(y, in(b));
      for (int k = 0; k < 8; ++k) x[k] = Op<float>::apply(x[k], y[k]);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(into + i * size),
                       _mm256_cvtps_ph(_mm256_load_ps(x), 0));
    }
  }
#endif
  // Element i meets element i only, even where `into` is `a` or `b`.
#pragma GCC ivdep
  for (; i < count; ++i) {
    store<Element>(into + i * size, Op<typename Element::Number>::apply(
                                        load<Element>(a + i * size),
                                        load<Element>(b + i * size)));
  }
}

template <class Element>
void combine_as(char* into, const char* a, const char* b, std::size_t count,
                ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
    case ReduceOp::kAvg:
      return combine_all<Element, Add>(into, a, b, count);
    case ReduceOp::kMin:
      return combine_all<Element, Min>(into, a, b, count);
    case ReduceOp::kMax:
      return combine_all<Element, Max>(into, a, b, count);
    case ReduceOp::kProduct:
      return combine_all<Element, Multiply>(into, a, b, count);
  }
}

// A bool is 0 or 1 in a byte: "or" is the maximum, "and" the minimum.
void combine_bool(char* into, const char* a, const char* b, std::size_t count,
                  ReduceOp op) {
  const bool any = op == ReduceOp::kSum || op == ReduceOp::kMax;
  using Byte = Plain<std::uint8_t>;
  return any ? combine_all<Byte, Max>(into, a, b, count)
             : combine_all<Byte, Min>(into, a, b, count);
}

void combine_arrays(void* into, const void* a, const void* b, std::size_t count,
                    DType dtype, ReduceOp op) {
  const auto to = static_cast<char*>(into);
  const auto x = static_cast<const char*>(a);
  const auto y = static_cast<const char*>(b);
  switch (dtype) {
    case DType::kFloat32:
      return combine_as<Plain<float>>(to, x, y, count, op);
    case DType::kFloat64:
      return combine_as<Plain<double>>(to, x, y, count, op);
    case DType::kBFloat16:
      return combine_as<Bf16>(to, x, y, count, op);
    case DType::kFloat16:
      return combine_as<Fp16>(to, x, y, count, op);
    case DType::kInt32:
      return combine_as<Plain<std::int32_t>>(to, x, y, count, op);
    case DType::kInt64:
      return combine_as<Plain<std::int64_t>>(to, x, y, count, op);
    case DType::kBool:
      return combine_bool(to, x, y, count, op);
    case DType::kInt8:
      return combine_as<Plain<std::int8_t>>(to, x, y, count, op);
    case DType::kUInt8:
      return combine_as<Plain<std::uint8_t>>(to, x, y, count, op);
    case DType::kInt16:
      return combine_as<Plain<std::int16_t>>(to, x, y, count, op);
  }
}

template <class Element>
void divide_all(char* data, std::size_t count, int ranks) {
  constexpr std::size_t size = sizeof(typename Element::Memory);
  using Number = typename Element::Number;
  // A narrow integer may not hold the number of ranks.
  using Wide =
      std::conditional_t<std::is_integral_v<Number>, std::int64_t, Number>;
  const auto by = static_cast<Wide>(ranks);
#pragma GCC ivdep
  for (std::size_t i = 0; i < count; ++i) {
    store<Element>(data + i * size,
                   static_cast<Number>(load<Element>(data + i * size) / by));
  }
}

void divide_array(void* data, std::size_t count, DType dtype, int ranks) {
  const auto to = static_cast<char*>(data);
  switch (dtype) {
    case DType::kFloat32:
      return divide_all<Plain<float>>(to, count, ranks);
    case DType::kFloat64:
      return divide_all<Plain<double>>(to, count, ranks);
    case DType::kBFloat16:
      return divide_all<Bf16>(to, count, ranks);
    case DType::kFloat16:
      return divide_all<Fp16>(to, count, ranks);
    case DType::kInt32:
      return divide_all<Plain<std::int32_t>>(to, count, ranks);
    case DType::kInt64:
      return divide_all<Plain<std::int64_t>>(to, count, ranks);
    case DType::kInt8:
      return divide_all<Plain<std::int8_t>>(to, count, ranks);
    case DType::kUInt8:
      return divide_all<Plain<std::uint8_t>>(to, count, ranks);
    case DType::kInt16:
      return divide_all<Plain<std::int16_t>>(to, count, ranks);
    case DType::kBool:
      return;  // refused by check_reduction()
  }
}
