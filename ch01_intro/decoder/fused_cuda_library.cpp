// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/decoder/fused_device.h"
#include "common/errors.h"

namespace dai::intro {

const FusedDevice& fused_cuda() {
  throw Unavailable(
      "the fused operations have no CUDA kernels in this build; naive_ops() "
      "runs on any device");
}

}  // namespace dai::intro
