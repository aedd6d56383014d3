// SPDX-License-Identifier: Apache-2.0
#pragma once

// The device of a rank, chosen once: tensors are written once against
// at::Tensor, and the same binary runs on CPU or CUDA.
//
//   at::Device device = dai::choose_device(options.device, app.launch());
//   app.print(fmt::format("device: {}\n", dai::describe_device(device)));
//
// Apps link LibTorch's CPU half only. The CUDA half (libtorch_cuda and NCCL,
// through our libdai_cuda.so) is loaded by the first call of choose_device()
// that finds an NVIDIA driver: a CPU run never pays for it. Call it before the
// first use of torch, since PyTorch looks for its CUDA hooks only once.

#include <c10/core/Device.h>

#include <string>
#include <string_view>

#include "common/launch_context.h"

namespace dai {

// `flag` is auto, cpu or cuda; auto takes CUDA where a device exists.
// With CUDA, the rank gets the device of its local_rank.
// Throws Unavailable ("needs 4 CUDA devices, found 2") when CUDA was asked for
// or is present but too small, UsageError for any other flag.
at::Device choose_device(std::string_view flag, const LaunchContext& launch);

// "cpu (AMD EPYC 9B14, 1 thread)" or "cuda:0 (NVIDIA H100 80GB HBM3, 79 GiB)".
std::string describe_device(at::Device device);

// One intra-op thread in this process: with two, matrix products split their
// sums differently and gradients change in the last bits from run to run of
// different thread counts.
void set_deterministic_threads();

}  // namespace dai
