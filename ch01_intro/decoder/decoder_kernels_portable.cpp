// SPDX-License-Identifier: Apache-2.0
// decoder_kernels_body.h for what every CPU of the architecture has.
#define DAI_KERNELS kPortableKernels
#define DAI_KERNELS_NAME "portable"
#define DAI_VECTOR_BYTES 16
#include "ch01_intro/decoder/decoder_kernels_body.h"
