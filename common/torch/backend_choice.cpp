// SPDX-License-Identifier: Apache-2.0
#include "common/torch/backend_choice.h"

#include <errno.h>  // program_invocation_short_name
#include <fmt/format.h>

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <system_error>

#include "common/errors.h"
#include "common/torch/collectives_library.h"
#include "common/torch/cuda_library.h"
#include "common/torch/device.h"
#include "common/torch/mpi_library.h"
#include "common/torch/network_address.h"
#include "common/torch/observed_work.h"
#include "common/torch/own_library.h"

namespace dai {

const MpiLibrary& load_mpi_library() {
  static auto* const entry = reinterpret_cast<decltype(&dai_mpi_library)>(
      own_library_symbol("libdai_mpi.so", "dai_mpi_library",
                         "this build has no MPI backend: CMake found no MPI "
                         "(Debian: libopenmpi-dev)",
                         // MPI's plugins look for its symbols in the program.
                         LibraryScope::kGlobal));
  return *entry();
}

const CollectivesLibrary& load_collectives_library() {
  static auto* const entry =
      reinterpret_cast<decltype(&dai_collectives_library)>(
          own_library_symbol("libdai_collectives.so", "dai_collectives_library",
                             "this build has no chapter 2, whose collectives "
                             "--backend dai uses"));
  return *entry();
}

namespace {

using Gloo = ::c10d::ProcessGroupGloo;

at::Device choose_fitting_device(const DistributedOptions& options,
                                 const LaunchContext& launch) {
  const std::string& backend = options.backend;
  if (backend != "auto" && backend != "gloo" && backend != "nccl" &&
      backend != "mpi" && backend != "dai") {
    throw UsageError(fmt::format(
        "--backend {}: accepted are auto, gloo, nccl, mpi and dai", backend));
  }
  std::string flag = options.device;
  if (flag == "auto" &&
      (backend == "gloo" || backend == "mpi" || backend == "dai")) {
    flag = "cpu";
  }
  if (flag == "auto" && backend == "nccl") flag = "cuda";
  const at::Device device = choose_device(flag, launch);
  if (backend == "mpi") {
    if (device.is_cuda()) check_cuda_aware(load_mpi_library(), device);
    return device;
  }
  const char* fits = device.is_cuda() ? "nccl" : "gloo";
  if (backend == "dai" && device.is_cpu()) return device;
  if (backend != "auto" && backend != fits) {
    throw UsageError(
        fmt::format("--backend {} does not work with --device {}: use {}",
                    backend, options.device, fits));
  }
  return device;
}

// Under another launcher MPI starts each rank as a world of its own, and all
// of them would "succeed", alone.
void check_mpi_launch(const LaunchContext& launch) {
  if (launch.world_size == 1) return;
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK"}) {
    if (std::getenv(name)) return;
  }
  throw UsageError(fmt::format(
      "--backend mpi needs MPI's own launcher, these ranks were started by {}; "
      "type: {} -n {} {} --backend mpi",
      launch.launcher == Launcher::kTorchrun ? "dai_launch or torchrun"
      : launch.launcher == Launcher::kSlurm  ? "srun without --mpi=pmix"
                                             : "hand",
      launch.launcher == Launcher::kSlurm ? "srun --mpi=pmix" : "mpirun",
      launch.world_size, program_invocation_name));
}

}  // namespace

void check_cuda_aware(const MpiLibrary& mpi, const at::Device& device) {
  if (mpi.cuda_aware()) return;
  throw UsageError(
      fmt::format("--backend mpi does not work with --device {}: {} is not "
                  "CUDA-aware; use --device cpu or --backend nccl",
                  device.str(), mpi.version()));
}

BackendChoice choose_backend(const DistributedOptions& options,
                             const LaunchContext& launch,
                             const std::vector<std::string>& hosts) {
  BackendChoice choice;
  choice.device = choose_fitting_device(options, launch);
  choice.timeout = std::chrono::seconds(options.timeout_s);
  const std::string& interface = options.interface;
  if (options.backend == "mpi") {
    check_mpi_launch(launch);
    choice.name = "mpi";
    choice.via = load_mpi_library().version();
    if (!interface.empty()) {
      setenv("OMPI_MCA_btl_tcp_if_include", interface.c_str(), 1);
    }
    return choice;
  }
  if (choice.device.is_cuda()) {
    // NCCL finds its interface itself, unless it is told one.
    choice.name = "nccl";
    choice.via = interface.empty() ? "its own choice" : interface;
    if (!interface.empty()) {
      setenv("NCCL_SOCKET_IFNAME", interface.c_str(), /*overwrite=*/1);
    }
    return choice;
  }
  if (options.backend == "dai") {
    load_collectives_library().check_environment();
    choice.name = "dai";
    choice.via = interface.empty() ? choose_address(launch, hosts)
                                   : address_of_interface(interface);
    return choice;
  }
  choice.name = "gloo";
  choice.via = interface.empty() ? choose_address(launch, hosts) : interface;
  choice.gloo = Gloo::Options::create(choice.timeout);
  try {
    choice.gloo->devices.push_back(
        interface.empty() ? Gloo::createDeviceForHostname(choice.via)
                          : Gloo::createDeviceForInterface(interface));
  } catch (const std::exception& error) {
    // Gloo's line ends in the system's own words.
    const std::string said = error.what();
    for (const int code : {EMFILE, ENFILE, ENOMEM}) {
      const std::string words = std::generic_category().message(code);
      if (said.find(words) != std::string::npos) {
        throw std::runtime_error(fmt::format(
            "gloo cannot open a socket at {}: {}", choice.via, words));
      }
    }
    throw UsageError(
        fmt::format("{} {}: this node has no such address to listen on",
                    interface.empty() ? "address" : "--interface", choice.via));
  }
  return choice;
}

c10::intrusive_ptr<::c10d::Backend> form_backend(
    BackendChoice& choice, const LaunchContext& launch,
    const c10::intrusive_ptr<::c10d::Store>& store) {
  const int rank = launch.rank;
  const int size = launch.world_size;
  try {
    if (choice.name == "mpi") {
      return load_mpi_library().make_backend(rank, size,
                                             {.timeout = choice.timeout});
    }
    if (choice.name == "dai") {
      auto made = load_collectives_library().make_backend(
          store, {.rank = rank,
                  .size = size,
                  .address = choice.via,
                  .node = fmt::format("{} {}", launch.host, launch.node_rank),
                  .timeout = choice.timeout});
      choice.via = made.description;
      return made.backend;
    }
    if (choice.device.is_cuda()) {
      return load_cuda_library()->make_nccl_backend(
          store, rank, size, choice.device.index(), choice.timeout);
    }
    return c10::make_intrusive<Gloo>(store, rank, size, choice.gloo);
  } catch (const UsageError&) {
    throw;
  } catch (const std::exception&) {
    throw std::runtime_error(fmt::format(
        "rank {} cannot form the {} group: {}", rank, choice.name,
        explain_backend_error(std::current_exception(), choice.timeout)));
  }
}

}  // namespace dai
