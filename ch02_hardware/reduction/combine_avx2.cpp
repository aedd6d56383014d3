// SPDX-License-Identifier: Apache-2.0

// Compiled with -mavx2 -mf16c; on other processors than x86-64 there is nothing
// in it.
#ifdef __AVX2__
#include <immintrin.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "ch02_hardware/reduction/combine.h"
#include "ch02_hardware/reduction/float16.h"

namespace dai::hardware::avx2 {
namespace {
#include "ch02_hardware/reduction/combine_body.h"
// Stores that do not cross cache lines, four lines at a time.
void copy_all(void* to, const void* from, std::size_t bytes) {
  auto* out = static_cast<char*>(to);
  const auto* in = static_cast<const char*>(from);
  const auto move = [](char* there, const char* here) {
    _mm256_storeu_si256(
        reinterpret_cast<__m256i*>(there),
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(here)));
  };
  if (bytes >= 512) {
    const std::size_t head = -reinterpret_cast<std::uintptr_t>(out) % 64;
    move(out, in);
    move(out + 32, in + 32);
    out += head;
    in += head;
    bytes -= head;
    for (; bytes >= 256; bytes -= 256, out += 256, in += 256) {
      __m256i row[8];
      for (int i = 0; i < 8; ++i) {
        row[i] =
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + 32 * i));
      }
      for (int i = 0; i < 8; ++i) {
        _mm256_store_si256(reinterpret_cast<__m256i*>(out + 32 * i), row[i]);
      }
    }
  }
  if (bytes > 0) std::memcpy(out, in, bytes);
}
}  // namespace

extern const CombineKernels kKernels;
const CombineKernels kKernels = {"avx2", combine_arrays, copy_all,
                                 divide_array};

}  // namespace dai::hardware::avx2
#endif
