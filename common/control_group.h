// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a process may use of its machine, where a container or a batch system
// grants less than all of it: Linux control groups, version 1 and 2, asked
// from this process's own group up to the root, since a limit anywhere on the
// way holds.
//
//   const double cores = cpu_quota();                     // 1.5, or -1: all
//   const std::int64_t bytes = memory_available_bytes();  // -1: unknown
//
// `root` stands before /proc and /sys, so that tests can show another machine.

#include <cstdint>
#include <string>

namespace dai {

// Cores' worth of time; -1: no limit.
double cpu_quota(const std::string& root = "");

// What could be given out without swapping (MemAvailable), or what is left of
// the strictest memory limit where that is less. Cached file pages that the
// kernel would drop first (inactive_file) count as free. -1: unknown.
std::int64_t memory_available_bytes(const std::string& root = "");

// The line "KEY: n kB" of /proc/meminfo, in bytes; -1: there is none.
std::int64_t meminfo_bytes(const std::string& key,
                           const std::string& root = "");

}  // namespace dai
