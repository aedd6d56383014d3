// SPDX-License-Identifier: Apache-2.0
#include "common/torch/backend_choice.h"

#include <fmt/format.h>

#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>

#include "common/errors.h"
#include "common/torch/cuda_library.h"
#include "common/torch/device.h"
#include "common/torch/network_address.h"
#include "common/torch/observed_work.h"

namespace dai {
namespace {

using Gloo = ::c10d::ProcessGroupGloo;

at::Device choose_fitting_device(const DistributedOptions& options,
                                 const LaunchContext& launch) {
  const std::string& backend = options.backend;
  if (backend != "auto" && backend != "gloo" && backend != "nccl") {
    throw UsageError(
        fmt::format("--backend {}: accepted are auto, gloo and nccl", backend));
  }
  std::string flag = options.device;
  if (flag == "auto" && backend == "gloo") flag = "cpu";
  if (flag == "auto" && backend == "nccl") flag = "cuda";
  const at::Device device = choose_device(flag, launch);
  const char* fits = device.is_cuda() ? "nccl" : "gloo";
  if (backend != "auto" && backend != fits) {
    throw UsageError(
        fmt::format("--backend {} does not work with --device {}: use {}",
                    backend, options.device, fits));
  }
  return device;
}

}  // namespace

BackendChoice choose_backend(const DistributedOptions& options,
                             const LaunchContext& launch,
                             const std::vector<std::string>& hosts) {
  BackendChoice choice;
  choice.device = choose_fitting_device(options, launch);
  choice.timeout = std::chrono::seconds(options.timeout_s);
  const std::string& interface = options.interface;
  if (choice.device.is_cuda()) {
    // NCCL finds its interface itself, unless it is told one.
    choice.name = "nccl";
    choice.via = interface.empty() ? "its own choice" : interface;
    if (!interface.empty()) {
      setenv("NCCL_SOCKET_IFNAME", interface.c_str(), /*overwrite=*/1);
    }
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
    const BackendChoice& choice, const LaunchContext& launch,
    const c10::intrusive_ptr<::c10d::Store>& store) {
  const int rank = launch.rank;
  const int size = launch.world_size;
  try {
    if (choice.device.is_cuda()) {
      return load_cuda_library()->make_nccl_backend(
          store, rank, size, choice.device.index(), choice.timeout);
    }
    return c10::make_intrusive<Gloo>(store, rank, size, choice.gloo);
  } catch (const std::exception&) {
    throw std::runtime_error(fmt::format(
        "rank {} cannot form the {} group: {}", rank, choice.name,
        explain_backend_error(std::current_exception(), choice.timeout)));
  }
}

}  // namespace dai
