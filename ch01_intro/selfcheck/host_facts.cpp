// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/selfcheck/host_facts.h"

#include <fmt/format.h>
#include <gnu/libc-version.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "common/control_group.h"
#include "common/file.h"
#include "common/fnv1a.h"
#include "common/report.h"

namespace dai::intro {
namespace {

namespace fs = std::filesystem;

// The link "pid:[4026531836]" of /proc/self/ns/pid, or nothing.
std::string link_target(const std::string& path) {
  std::error_code error;
  const fs::path target = fs::read_symlink(path, error);
  return error ? "" : target.string();
}

std::vector<int> usable_cpus() {
  // Larger than cpu_set_t's 1024: there are such machines.
  constexpr int kMost = 8192;
  std::vector<int> cpus;
  cpu_set_t* set = CPU_ALLOC(kMost);
  const std::size_t bytes = CPU_ALLOC_SIZE(kMost);
  CPU_ZERO_S(bytes, set);
  if (sched_getaffinity(0, bytes, set) == 0) {
    for (int cpu = 0; cpu < kMost; ++cpu) {
      if (CPU_ISSET_S(cpu, bytes, set)) cpus.push_back(cpu);
    }
  }
  CPU_FREE(set);
  return cpus;
}

// A fingerprint of the program itself, of the whole file: a binary
// that somebody forgot to copy differs in it even where versions agree.
std::string own_binary_hash() {
  std::ifstream file("/proc/self/exe", std::ios::binary);
  std::uint64_t hash = fnv1a("");
  std::vector<char> block(1 << 20);
  while (file) {
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    hash = fnv1a({block.data(), static_cast<std::size_t>(file.gcount())}, hash);
  }
  return fmt::format("{:016x}", hash);
}

}  // namespace

std::vector<int> parse_cpu_list(const std::string& text) {
  std::vector<int> cpus;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    int first = 0, last = 0;
    const int read = std::sscanf(part.c_str(), "%d-%d", &first, &last);
    if (read < 1 || first < 0) break;
    if (read == 1) last = first;
    for (int cpu = first; cpu <= std::min(last, first + 8192); ++cpu) {
      cpus.push_back(cpu);
    }
  }
  return cpus;
}

std::vector<int> read_numa_nodes(const std::string& root,
                                 const std::vector<int>& cpus) {
  std::vector<int> nodes;
  std::error_code error;
  for (const auto& entry :
       fs::directory_iterator(root + "/sys/devices/system/node", error)) {
    int node = 0;
    const std::string name = entry.path().filename();
    if (std::sscanf(name.c_str(), "node%d", &node) != 1) continue;
    const auto own = parse_cpu_list(first_line_of(entry.path() / "cpulist"));
    const bool any = std::any_of(own.begin(), own.end(), [&](int cpu) {
      return cpus.empty() ||
             std::find(cpus.begin(), cpus.end(), cpu) != cpus.end();
    });
    if (any) nodes.push_back(node);
  }
  std::sort(nodes.begin(), nodes.end());
  return nodes;
}

char process_state(int pid) {
  const std::string stat = first_line_of(fmt::format("/proc/{}/stat", pid));
  const auto name_end = stat.rfind(") ");
  return name_end == std::string::npos ? '\0' : stat[name_end + 2];
}

HostFacts read_host_facts(const std::string& root) {
  HostFacts facts;
  utsname kernel{};
  uname(&kernel);
  facts.host = kernel.nodename;
  facts.boot_id = first_line_of(root + "/proc/sys/kernel/random/boot_id");
  facts.pid_space = link_target("/proc/self/ns/pid");
  facts.pid = getpid();
  facts.versions = {{"program", DAI_VERSION},
                    {"binary", own_binary_hash()},
                    {"kernel", kernel.release},
                    {"libc", gnu_get_libc_version()}};
  const auto machine = describe_machine();
  facts.cpu_model = machine["cpu"];
  facts.instruction_sets = machine["instruction_sets"];
  facts.cpus = usable_cpus();
  facts.online_cores = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  facts.cpu_quota = cpu_quota(root);
  facts.cpu_numa_nodes = read_numa_nodes(root, facts.cpus);
  facts.numa_nodes = static_cast<int>(read_numa_nodes(root, {}).size());
  facts.memory_bytes = meminfo_bytes("MemTotal", root);
  facts.memory_available_bytes = memory_available_bytes(root);
  struct statvfs shm{};
  facts.shm_bytes = 0;  // no /dev/shm is a fault, not an unknown
  if (statvfs((root + "/dev/shm").c_str(), &shm) == 0) {
    facts.shm_bytes = static_cast<std::int64_t>(shm.f_blocks) *
                      static_cast<std::int64_t>(shm.f_frsize);
  }
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    facts.open_files = static_cast<std::int64_t>(
        std::min<rlim_t>(files.rlim_cur, std::int64_t{1} << 40));
  }
  facts.links = read_links();
  facts.gpus = read_gpus(root);
  if (!facts.gpus.empty()) {
    const int version = facts.gpus[0].driver_version;
    facts.versions["CUDA driver"] =
        fmt::format("{}.{}", version / 1000, version % 1000 / 10);
  }
  return facts;
}

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Link, name, address, running, loopback, mtu,
                                   speed_mbit)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(GpuFacts, bus, name, numa_node, compute_mode,
                                   driver_version, memory_bytes)

namespace wire {
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(HostFacts, host, boot_id, pid_space, pid,
                                   versions, cpu_model, instruction_sets, cpus,
                                   online_cores, cpu_quota, cpu_numa_nodes,
                                   numa_nodes, memory_bytes,
                                   memory_available_bytes, shm_bytes,
                                   open_files, links, gpus)
}  // namespace wire

void to_json(nlohmann::json& out, const HostFacts& facts) {
  wire::to_json(out, facts);
}
void from_json(const nlohmann::json& in, HostFacts& facts) {
  wire::from_json(in, facts);
}

}  // namespace dai::intro
