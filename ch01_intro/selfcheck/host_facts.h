// SPDX-License-Identifier: Apache-2.0
#pragma once

// What one rank sees of the machine it runs on, read from the kernel and not
// from any configuration: the raw material of the preflight's verdicts
// (judge.h), sent to rank 0 as JSON. Knows no torch.
//
//   HostFacts facts = read_host_facts();
//   fmt::print("{} of {} cores\n", facts.cores, facts.online_cores);
//   nlohmann::json wire = facts;
//
// A fact that cannot be read keeps its "unknown" value (-1, or empty) and is
// then not compared: a missing file is no fault. `root` stands before /proc
// and /sys, so that tests can show another machine.

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace dai::intro {

struct Link {
  std::string name;       // "eth0"
  std::string address;    // its first IPv4 address, else IPv6; or empty
  bool running = false;   // up, and the cable (or its equivalent) is in
  bool loopback = false;  // reaches this machine alone
  int mtu = -1;           // bytes
  int speed_mbit = -1;    // Mbit/s; unknown for loopback and most virtual ones
};

struct GpuFacts {
  std::string bus;          // PCI address "0000:3b:00.0": who it is
  std::string name;         // "NVIDIA H100 80GB HBM3"
  int numa_node = -1;       // of its PCI slot
  int compute_mode = 0;     // CUDA: 0 default, 2 prohibited, 3 one process
  int driver_version = -1;  // CUDA: 13000 is 13.0
  std::int64_t memory_bytes = -1;
};

struct HostFacts {
  std::string host;       // the name that the kernel goes by
  std::string boot_id;    // differs between machines and boots
  std::string pid_space;  // pid namespace: pids mean something inside it
  int pid = 0;
  std::map<std::string, std::string> versions;  // "kernel" -> "6.1.0"
  std::string cpu_model;
  std::string instruction_sets;
  std::vector<int> cpus;  // that this process may run on (affinity, cpuset)
  int online_cores = -1;  // of the machine
  double cpu_quota = -1;  // cores' worth of time the cgroup grants; -1: all
  std::vector<int> cpu_numa_nodes;  // of the cores it may run on
  int numa_nodes = -1;              // of the machine, those with cores
  std::int64_t memory_bytes = -1;
  std::int64_t memory_available_bytes = -1;  // the cgroup's limit included
  std::int64_t shm_bytes = -1;               // size of /dev/shm
  std::int64_t open_files = -1;              // soft RLIMIT_NOFILE
  std::vector<Link> links;
  std::vector<GpuFacts> gpus;

  int cores() const { return static_cast<int>(cpus.size()); }  // 0: unknown
};

HostFacts read_host_facts(const std::string& root = "");

// The parts, for tests.
// Nodes that own one of `cpus`; all nodes with cores when `cpus` is empty.
std::vector<int> read_numa_nodes(const std::string& root,
                                 const std::vector<int>& cpus);
// "0-3,8" -> 0 1 2 3 8. Anything else than such a list gives what came before.
std::vector<int> parse_cpu_list(const std::string& text);
// Of this process's network namespace, asked by ioctl: a container's /sys may
// show another one.
std::vector<Link> read_links();
// Through the driver's own library, without creating a context on any device.
// Empty where there is no such library or no device.
std::vector<GpuFacts> read_gpus(const std::string& root,
                                const char* library = "libcuda.so.1");
// The letter of /proc/PID/stat ('T' stopped, 'Z' dead), or 0: no such process.
char process_state(int pid);

void to_json(nlohmann::json& out, const HostFacts& facts);
void from_json(const nlohmann::json& in, HostFacts& facts);

}  // namespace dai::intro
