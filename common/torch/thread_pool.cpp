// SPDX-License-Identifier: Apache-2.0
#include "common/torch/thread_pool.h"

#include <dlfcn.h>

namespace dai {

void release_thread_pool() {
  // OpenMP 5.0; LibTorch brings the library, no header.
  constexpr int kHard = 2;  // omp_pause_hard
  using Pause = int (*)(int);
  static const auto pause =
      reinterpret_cast<Pause>(::dlsym(RTLD_DEFAULT, "omp_pause_resource_all"));
  if (pause != nullptr) pause(kHard);
}

}  // namespace dai
