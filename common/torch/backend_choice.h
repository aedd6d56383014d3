// SPDX-License-Identifier: Apache-2.0
#pragma once

// From what the flags say and the machine has to a c10d::Backend: Gloo on a
// CPU, NCCL on CUDA, MPI or chapter 2's own when asked for. Used by
// ProcessGroup::connect(); includes c10d.

#include <chrono>
#include <string>
#include <vector>

#include "common/torch/c10d_compat.h"
#include "common/torch/mpi_library.h"
#include "common/torch/process_group.h"

namespace dai {

struct BackendChoice {
  std::string name;  // "gloo", "nccl", "mpi" or "dai"
  at::Device device = at::kCPU;
  std::string via;  // the address or interface it talks from
  std::chrono::milliseconds timeout{0};
  // Its listening socket is open already. Null for the others.
  c10::intrusive_ptr<::c10d::ProcessGroupGloo::Options> gloo;
};

// Everything about a backend that can be wrong on one rank alone, without a
// word to the others. `hosts` are the ranks' node names.
// Throws UsageError or Unavailable; UsageError also for MPI under a launcher
// that is not MPI's: each rank would be a world of its own.
BackendChoice choose_backend(const DistributedOptions& options,
                             const LaunchContext& launch,
                             const std::vector<std::string>& hosts);

// A CUDA pointer in the hands of an MPI that does not know such is a crash.
// Throws UsageError unless it does.
void check_cuda_aware(const MpiLibrary& mpi, const at::Device& device);

// Connects the ranks; collective. What it talks through is then in
// choice.via. Throws std::runtime_error of one line.
c10::intrusive_ptr<::c10d::Backend> form_backend(
    BackendChoice& choice, const LaunchContext& launch,
    const c10::intrusive_ptr<::c10d::Store>& store);

}  // namespace dai
