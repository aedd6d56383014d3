// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/decoder/decoder_kernels.h"

namespace dai::intro {

// Each by its own source, compiled for its instruction set.
extern const DecoderKernels kAvx512Kernels, kAvx2Kernels, kPortableKernels;

std::vector<DecoderKernels> decoder_kernels() {
  std::vector<DecoderKernels> kernels;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    kernels.push_back(kAvx512Kernels);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    kernels.push_back(kAvx2Kernels);
  }
#endif
  kernels.push_back(kPortableKernels);
  return kernels;
}

}  // namespace dai::intro
