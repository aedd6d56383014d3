// SPDX-License-Identifier: Apache-2.0
// decoder_kernels_body.h for AVX2 with FMA; CMake sets the instruction set.
#if defined(__x86_64__)
#define DAI_KERNELS kAvx2Kernels
#define DAI_KERNELS_NAME "avx2"
#define DAI_VECTOR_BYTES 32
#include "ch01_intro/decoder/decoder_kernels_body.h"
#endif
