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
}  // namespace

extern const CombineKernels kKernels;
const CombineKernels kKernels = {"avx2", combine_arrays, divide_array};

}  // namespace dai::hardware::avx2
#endif
