// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "ch02_hardware/reduction/combine.h"
#include "ch02_hardware/reduction/float16.h"

namespace dai::hardware::portable {
namespace {
#include "ch02_hardware/reduction/combine_body.h"
}  // namespace

extern const CombineKernels kKernels;
const CombineKernels kKernels = {"portable", combine_arrays, divide_array};

}  // namespace dai::hardware::portable
