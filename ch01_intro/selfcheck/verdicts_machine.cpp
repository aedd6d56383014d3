// SPDX-License-Identifier: Apache-2.0
// Verdicts on one machine: devices, cores, memory, limits, NUMA.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "ch01_intro/selfcheck/verdicts.h"

namespace dai::intro {
namespace {

constexpr std::int64_t kMiB = 1 << 20;
constexpr int kProhibited = 2;  // CU_COMPUTEMODE_PROHIBITED

const GpuFacts* gpu_of(const RankFacts& facts) {
  const auto& gpus = facts.machine.gpus;
  const bool known = facts.device_index >= 0 &&
                     facts.device_index < static_cast<int>(gpus.size());
  return known ? &gpus[facts.device_index] : nullptr;
}

// One rank's findings about its machine, in the few words each needs.
struct Reporter {
  const char* check;
  int rank;
  const std::string& host;
  Findings& found;
  void operator()(bool warning, std::string measured, std::string expected,
                  std::string advice) const {
    found.push_back({check,
                     host,
                     {rank},
                     warning,
                     std::move(measured),
                     std::move(expected),
                     std::move(advice)});
  }
};

void judge_gpu(const Ranks& ranks, int r, const Reporter& report) {
  const RankFacts& facts = ranks[r].facts;
  if (facts.device.empty()) {
    report(false, facts.device_error, "a device for every rank",
           "start fewer ranks on the node, or pass --device cpu");
  }
  const GpuFacts* gpu = gpu_of(facts);
  if (!gpu) return;
  if (gpu->compute_mode == kProhibited) {
    report(false,
           fmt::format("{} ({}) is in compute mode prohibited", facts.device,
                       gpu->bus),
           "mode default", "nvidia-smi -c DEFAULT");
  }
  std::vector<int> sharers;
  for (int other = 0; other < static_cast<int>(ranks.size()); ++other) {
    const GpuFacts* theirs = gpu_of(ranks[other].facts);
    // The boot id, not the name: containers of one machine have many names.
    if (theirs && theirs->bus == gpu->bus &&
        ranks[other].facts.machine.boot_id == facts.machine.boot_id) {
      sharers.push_back(other);
    }
  }
  if (sharers.size() > 1) {
    report(false,
           fmt::format("GPU {} ({}) is shared by ranks {}", gpu->bus, gpu->name,
                       fmt::join(sharers, ", ")),
           "a GPU of its own for every rank",
           "check CUDA_VISIBLE_DEVICES and the launcher's --gpus flags");
  }
}

// The ranks that take their cores from the same ones as `facts`' rank does.
struct Crowd {
  std::int64_t ranks = 0, threads = 0;
  double cores = 0;  // of them all together; 0: unknown
};
Crowd crowd_of(const Ranks& ranks, const RankFacts& facts) {
  const HostFacts& machine = facts.machine;
  Crowd machine_wide, container_wide;
  std::set<int> cpus;
  for (const RankReport& rank : ranks) {
    const HostFacts& theirs = rank.facts.machine;
    if (!rank.reported || theirs.boot_id != machine.boot_id) continue;
    ++machine_wide.ranks;
    machine_wide.threads += rank.facts.threads;
    cpus.insert(theirs.cpus.begin(), theirs.cpus.end());
    if (theirs.pid_space != machine.pid_space) continue;
    ++container_wide.ranks;
    container_wide.threads += rank.facts.threads;
  }
  machine_wide.cores = static_cast<double>(cpus.size());
  container_wide.cores = machine.cpu_quota;
  const bool quota_is_narrower =
      machine.cpu_quota > 0 &&
      static_cast<double>(container_wide.threads) > machine.cpu_quota;
  return quota_is_narrower ? container_wide : machine_wide;
}

void judge_cores(const Ranks& ranks, const RankFacts& facts,
                 const Reporter& report) {
  const HostFacts& machine = facts.machine;
  if (machine.cores() > 0 && facts.threads > machine.cores()) {
    report(false,
           fmt::format("{} threads on {} usable core{}", facts.threads,
                       machine.cores(), machine.cores() == 1 ? "" : "s"),
           fmt::format("at most {} thread{}", machine.cores(),
                       machine.cores() == 1 ? "" : "s"),
           "set OMP_NUM_THREADS, or widen the binding (taskset, --cpu-bind, "
           "cpuset)");
  } else if (machine.cpu_quota > 0 &&
             facts.threads > std::ceil(machine.cpu_quota)) {
    report(false,
           fmt::format("{} threads under a cgroup quota of {:g} cores",
                       facts.threads, machine.cpu_quota),
           fmt::format("at most {:g} threads", std::ceil(machine.cpu_quota)),
           "set OMP_NUM_THREADS, or raise the container's CPU limit: the "
           "quota stops all threads for the rest of each period");
  } else if (const Crowd crowd = crowd_of(ranks, facts);
             crowd.cores > 0 &&
             static_cast<double>(crowd.threads) > std::ceil(crowd.cores)) {
    report(true,
           fmt::format("{} ranks with {} threads on {:g} core{}", crowd.ranks,
                       crowd.threads, crowd.cores, crowd.cores == 1 ? "" : "s"),
           "a core for every thread",
           "start fewer ranks, or give them more cores (cpuset, CPU limit): "
           "these take turns, expect no speed-up");
  }
}

void judge_limits(const RankFacts& facts, int world_size,
                  const SelfcheckLimits& limits, const Reporter& report) {
  const HostFacts& machine = facts.machine;
  const std::int64_t ranks = facts.local_world_size;
  // A few sockets to each peer, and the libraries' own files.
  const std::int64_t files =
      std::max<std::int64_t>(limits.min_open_files, 256 + 8LL * world_size);
  if (machine.open_files >= 0 && machine.open_files < files) {
    report(false, fmt::format("open-file limit {}", machine.open_files),
           fmt::format("at least {}", files),
           "ulimit -n 65536 (LimitNOFILE= of a service, --ulimit nofile= of "
           "a container)");
  }
  if (machine.shm_bytes >= 0 &&
      machine.shm_bytes < limits.min_shm_mib * ranks * kMiB) {
    report(false,
           fmt::format("/dev/shm holds {} MiB", machine.shm_bytes / kMiB),
           fmt::format("at least {} MiB: {} for each of {} ranks",
                       limits.min_shm_mib * ranks, limits.min_shm_mib, ranks),
           "docker run --shm-size=1g, or mount -o remount,size=1g /dev/shm: "
           "NCCL and data loaders exchange through it");
  }
  const std::int64_t memory = machine.memory_available_bytes;
  if (memory >= 0 && memory < limits.min_memory_mib * ranks * kMiB) {
    report(false, fmt::format("{} MiB of memory available", memory / kMiB),
           fmt::format("at least {} MiB: {} for each of {} ranks",
                       limits.min_memory_mib * ranks, limits.min_memory_mib,
                       ranks),
           "end what else runs there, or raise the cgroup's memory limit");
  }
}

}  // namespace

void judge_device(const Ranks& ranks, const SelfcheckLimits& limits,
                  Findings& found) {
  std::vector<std::string> gpus;
  std::vector<std::int64_t> memory;
  for (int r = 0; r < static_cast<int>(ranks.size()); ++r) {
    gpus.emplace_back();
    if (!ranks[r].reported) continue;
    const RankFacts& facts = ranks[r].facts;
    const Reporter report{"device", r, facts.machine.host, found};
    judge_gpu(ranks, r, report);
    judge_cores(ranks, facts, report);
    judge_limits(facts, static_cast<int>(ranks.size()), limits, report);
    if (facts.machine.memory_bytes > 0) {
      memory.push_back(facts.machine.memory_bytes);
    }
    gpus[r] = std::to_string(facts.machine.gpus.size());
  }
  const Majority most_gpus = majority_of(gpus);
  std::sort(memory.begin(), memory.end());
  const std::int64_t usual = memory.empty() ? 0 : memory[memory.size() / 2];
  for (int r = 0; r < static_cast<int>(ranks.size()); ++r) {
    if (!ranks[r].reported) continue;
    const Reporter report{"device", r, ranks[r].facts.machine.host, found};
    if (gpus[r] != most_gpus.value) {
      report(true, fmt::format("{} GPUs", gpus[r]),
             fmt::format("{} as on {} of {} ranks", most_gpus.value,
                         most_gpus.count, most_gpus.known),
             "a GPU that fell off the bus? see dmesg");
    }
    // Equal machines differ by what their firmware keeps, some tenths of a
    // percent; one module of 24 is 4 %.
    const std::int64_t bytes = ranks[r].facts.machine.memory_bytes;
    if (bytes > 0 && std::abs(static_cast<double>(bytes - usual)) >
                         0.035 * static_cast<double>(usual)) {
      report(true, fmt::format("{} MiB of memory", bytes / kMiB),
             fmt::format("{} MiB, the middle of all ranks", usual / kMiB),
             "a memory module that is not seen?");
    }
  }
}

void judge_numa(const Ranks& ranks, Findings& found) {
  for (int r = 0; r < static_cast<int>(ranks.size()); ++r) {
    if (!ranks[r].reported) continue;
    const RankFacts& facts = ranks[r].facts;
    const HostFacts& machine = facts.machine;
    const Reporter report{"numa", r, machine.host, found};
    const auto& nodes = machine.cpu_numa_nodes;
    const bool pinned =
        machine.cores() > 0 && machine.cores() < machine.online_cores;
    const GpuFacts* gpu = gpu_of(facts);
    if (gpu && gpu->numa_node >= 0 && pinned && !nodes.empty() &&
        std::find(nodes.begin(), nodes.end(), gpu->numa_node) == nodes.end()) {
      report(false,
             fmt::format("its cores are of NUMA node {}, its GPU {} of node {}",
                         fmt::join(nodes, ", "), gpu->bus, gpu->numa_node),
             "both of one node",
             "bind the rank to the GPU's node (numactl, --cpu-bind)");
    }
    if (pinned && nodes.size() > 1) {
      report(true,
             fmt::format("pinned to cores of NUMA nodes {}",
                         fmt::join(nodes, ", ")),
             "cores of one node",
             "bind each rank within one node: a part of its memory is remote");
    }
  }
}

}  // namespace dai::intro
