// SPDX-License-Identifier: Apache-2.0
// decoder_kernels_body.h for AVX-512; CMake sets the instruction set.
#if defined(__x86_64__)
#define DAI_KERNELS kAvx512Kernels
#define DAI_KERNELS_NAME "avx512"
#define DAI_VECTOR_BYTES 64
#include "ch01_intro/decoder/decoder_kernels_body.h"
#endif
