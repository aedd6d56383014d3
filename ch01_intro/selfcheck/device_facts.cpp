// SPDX-License-Identifier: Apache-2.0
// The parts of host_facts.h that ask a device: network cards and GPUs.
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <fstream>

#include "ch01_intro/selfcheck/host_facts.h"

namespace dai::intro {
namespace {

std::string to_text(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address->sa_family == AF_INET6) {
    inet_ntop(AF_INET6,
              &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr, text,
              sizeof text);
  } else {
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr,
              text, sizeof text);
  }
  return text;
}

void ask_mtu_and_speed(int fd, Link& link) {
  ifreq request{};
  std::strncpy(request.ifr_name, link.name.c_str(), IFNAMSIZ - 1);
  if (ioctl(fd, SIOCGIFMTU, &request) == 0) link.mtu = request.ifr_mtu;
  if (link.loopback) return;
  ethtool_cmd settings{};
  settings.cmd = ETHTOOL_GSET;
  request.ifr_data = reinterpret_cast<char*>(&settings);
  if (ioctl(fd, SIOCETHTOOL, &request) != 0) return;
  const std::uint32_t speed = ethtool_cmd_speed(&settings);
  // Both patterns of all ones mean "unknown", of 16 and of 32 bits.
  if (speed != 0 && speed != 0xffff && speed != 0xffffffff) {
    link.speed_mbit = static_cast<int>(speed);
  }
}

// The driver's library, opened for these few questions. The numbers are
// CUdevice_attribute's, part of the driver's stable binary interface.
class CudaDriver {
 public:
  explicit CudaDriver(const char* library)
      : library_(dlopen(library, RTLD_LAZY | RTLD_LOCAL)) {}
  ~CudaDriver() {
    if (library_) dlclose(library_);
  }
  CudaDriver(const CudaDriver&) = delete;
  CudaDriver& operator=(const CudaDriver&) = delete;

  // True when the library has the function and it returned CUDA_SUCCESS.
  template <class... Args>
  bool call(const char* name, Args... args) const {
    void* found = library_ ? dlsym(library_, name) : nullptr;
    return found && reinterpret_cast<int (*)(Args...)>(found)(args...) == 0;
  }
  int attribute(int which, int device, int unknown) const {
    int value = unknown;
    return call("cuDeviceGetAttribute", &value, which, device) ? value
                                                               : unknown;
  }

 private:
  void* library_;
};
constexpr int kComputeMode = 20;

}  // namespace

std::vector<Link> read_links() {
  std::vector<Link> links;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return links;
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  for (const ifaddrs* one = list; one; one = one->ifa_next) {
    auto link = std::find_if(links.begin(), links.end(), [&](const Link& l) {
      return l.name == one->ifa_name;
    });
    if (link == links.end()) {
      links.emplace_back();
      link = links.end() - 1;
      link->name = one->ifa_name;
      link->running =
          (one->ifa_flags & IFF_UP) && (one->ifa_flags & IFF_RUNNING);
      link->loopback = one->ifa_flags & IFF_LOOPBACK;
      if (fd >= 0) ask_mtu_and_speed(fd, *link);
    }
    const int family = one->ifa_addr ? one->ifa_addr->sa_family : AF_UNSPEC;
    const bool better =
        link->address.empty() || link->address.find(':') != std::string::npos;
    if (family == AF_INET && better) link->address = to_text(one->ifa_addr);
    if (family == AF_INET6 && link->address.empty()) {
      link->address = to_text(one->ifa_addr);
    }
  }
  if (fd >= 0) close(fd);
  freeifaddrs(list);
  return links;
}

std::vector<GpuFacts> read_gpus(const std::string& root, const char* library) {
  std::vector<GpuFacts> gpus;
  const CudaDriver driver(library);
  int count = 0, version = -1;
  if (!driver.call("cuInit", 0u) || !driver.call("cuDeviceGetCount", &count)) {
    return gpus;
  }
  driver.call("cuDriverGetVersion", &version);
  for (int device = 0; device < count; ++device) {
    GpuFacts gpu;
    gpu.driver_version = version;
    char text[256] = "";
    if (driver.call("cuDeviceGetPCIBusId", text, int{sizeof text}, device)) {
      gpu.bus = text;
    }
    for (char& c : gpu.bus) c = static_cast<char>(std::tolower(c));
    if (driver.call("cuDeviceGetName", text, int{sizeof text}, device)) {
      gpu.name = text;
    }
    std::size_t bytes = 0;
    if (driver.call("cuDeviceTotalMem_v2", &bytes, device)) {
      gpu.memory_bytes = static_cast<std::int64_t>(bytes);
    }
    gpu.compute_mode = driver.attribute(kComputeMode, device, 0);
    std::ifstream(root + "/sys/bus/pci/devices/" + gpu.bus + "/numa_node") >>
        gpu.numa_node;
    gpus.push_back(gpu);
  }
  return gpus;
}

}  // namespace dai::intro
