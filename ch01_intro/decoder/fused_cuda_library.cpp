// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/decoder/fused_device.h"
#include "common/errors.h"
#include "common/torch/cuda_library.h"

namespace dai::intro {

const FusedDevice& fused_cuda() {
  using Entry = const FusedDevice*();
  static auto* const entry = reinterpret_cast<Entry*>(
      cuda_library_symbol("libdai_ch01_cuda.so", "dai_ch01_fused_cuda"));
  // A CUDA tensor without a driver cannot be; but say so rather than crash.
  if (!entry) throw Unavailable("needs a CUDA device, found no driver");
  return *entry();
}

}  // namespace dai::intro
