// SPDX-License-Identifier: Apache-2.0
#include "common/allocator.h"

#include <malloc.h>

namespace dai {

void keep_freed_memory() {
#ifdef __GLIBC__
  constexpr int kOneGiB = 1 << 30;
  mallopt(M_MMAP_THRESHOLD, kOneGiB);
  mallopt(M_TRIM_THRESHOLD, kOneGiB);
#endif
}

}  // namespace dai
