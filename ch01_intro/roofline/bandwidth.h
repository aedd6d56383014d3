// SPDX-License-Identifier: Apache-2.0
#pragma once

// How fast this machine's memory really is, level by level, as one program
// sees it: each thread reads and writes a buffer of its own, again and again,
// and the best pass counts (interruptions only ever slow a pass down).
//
//   for (const CacheLevel& cache : data_caches()) { ... cache.bytes ... }
//   Bandwidth b = measured_bandwidth(64 << 20, /*threads=*/2);
//   b.read_bytes_per_s;
//
// read:  sum of all elements: one stream in.
// triad: a[i] = b[i] + s * c[i] (McCalpin's STREAM): two streams in, one out,
//        counted as three; hardware that first fetches the line it is going to
//        overwrite moves a fourth, which is not counted.
//
// Kernels exist for several instruction sets and are chosen at run time.
// Times are wall-clock; other programs on the machine lower the result.

#include <cstdint>
#include <string>
#include <vector>

namespace dai::intro {

struct CacheLevel {
  int level = 0;           // 1, 2, 3
  std::int64_t bytes = 0;  // of one such cache
  int shared_by = 1;       // logical CPUs that share it
};

// The data and unified caches of this process's first CPU, smallest first.
// Empty where the kernel does not tell (some virtual machines).
std::vector<CacheLevel> data_caches();
// The same out of another folder laid out as
// /sys/devices/system/cpu/cpu0/cache, for tests.
std::vector<CacheLevel> data_caches(const std::string& folder);

struct Bandwidth {
  double read_bytes_per_s = 0;  // all threads together
  double triad_bytes_per_s = 0;
};

// `bytes` is what each thread touches (the triad's three arrays together).
// Runs for about `seconds`, at least three passes of each kernel.
// Throws std::invalid_argument for bytes < 4096 or threads < 1.
Bandwidth measured_bandwidth(std::int64_t bytes, int threads,
                             double seconds = 0.2);

// The kernels that this CPU can run, the widest vectors first: that one
// measures.
struct BandwidthKernels {
  std::string name;  // "avx512", "avx2", "portable"
  double (*read)(const double* data, std::int64_t n) = nullptr;
  // The arrays do not overlap.
  void (*triad)(double* a, const double* b, const double* c, double s,
                std::int64_t n) = nullptr;
};
std::vector<BandwidthKernels> bandwidth_kernels();

}  // namespace dai::intro
