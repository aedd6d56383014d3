// SPDX-License-Identifier: Apache-2.0
#include "common/torch/thread_pool.h"

#include <dlfcn.h>

#include <cstring>

namespace dai {

void release_thread_pool() {
  // OpenMP 5.0; LibTorch brings the library, no header.
  constexpr int kHard = 2;  // omp_pause_hard
  using Pause = int (*)(int);
  static const Pause pause = [] {
    void* const found = ::dlsym(RTLD_DEFAULT, "omp_pause_resource_all");
    // LLVM's would end the threads of all callers.
    Dl_info where{};
    const bool gnu = found != nullptr && ::dladdr(found, &where) != 0 &&
                     std::strstr(where.dli_fname, "libgomp") != nullptr;
    return gnu ? reinterpret_cast<Pause>(found) : nullptr;
  }();
  if (pause != nullptr) pause(kHard);
}

}  // namespace dai
