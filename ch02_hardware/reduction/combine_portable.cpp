// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "ch02_hardware/reduction/combine.h"
#include "ch02_hardware/reduction/float16.h"

namespace dai::hardware::portable {
namespace {
#include "ch02_hardware/reduction/combine_body.h"
void copy_all(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}
}  // namespace

extern const CombineKernels kKernels;
const CombineKernels kKernels = {"portable", combine_arrays, copy_all,
                                 divide_array};

}  // namespace dai::hardware::portable
