// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/roofline/bandwidth.h"

#include <algorithm>
#include <barrier>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "common/timer.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dai::intro {
namespace {

// Several running sums: a single one would measure the latency of an addition.
double read_portably(const double* data, std::int64_t n) {
  double sums[8] = {};
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int lane = 0; lane < 8; ++lane) sums[lane] += data[i + lane];
  }
  double total = 0;
  for (; i < n; ++i) total += data[i];
  for (const double sum : sums) total += sum;
  return total;
}

void triad_portably(double* __restrict a, const double* __restrict b,
                    const double* __restrict c, double s, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) a[i] = b[i] + s * c[i];
}

#if defined(__x86_64__)
// Written out for both widths: compilers lower generic vectors before they
// clone a function for other instruction sets.
__attribute__((target("avx2,fma"))) double read_avx2(const double* data,
                                                     std::int64_t n) {
  __m256d sums[8] = {};
  std::int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) {
      sums[v] = _mm256_add_pd(sums[v], _mm256_loadu_pd(data + i + 4 * v));
    }
  }
  double lanes[32];
#pragma GCC unroll 8
  for (int v = 0; v < 8; ++v) _mm256_storeu_pd(lanes + 4 * v, sums[v]);
  return std::accumulate(lanes, lanes + 32, 0.0) +
         read_portably(data + i, n - i);
}

__attribute__((target("avx2,fma"))) void triad_avx2(double* a, const double* b,
                                                    const double* c, double s,
                                                    std::int64_t n) {
  const __m256d factor = _mm256_set1_pd(s);
  std::int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    _mm256_storeu_pd(a + i, _mm256_fmadd_pd(factor, _mm256_loadu_pd(c + i),
                                            _mm256_loadu_pd(b + i)));
  }
  triad_portably(a + i, b + i, c + i, s, n - i);
}

__attribute__((target("avx512f"))) double read_avx512(const double* data,
                                                      std::int64_t n) {
  __m512d sums[8] = {};
  std::int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) {
      sums[v] = _mm512_add_pd(sums[v], _mm512_loadu_pd(data + i + 8 * v));
    }
  }
  double lanes[64];
#pragma GCC unroll 8
  for (int v = 0; v < 8; ++v) _mm512_storeu_pd(lanes + 8 * v, sums[v]);
  return std::accumulate(lanes, lanes + 64, 0.0) +
         read_portably(data + i, n - i);
}

__attribute__((target("avx512f"))) void triad_avx512(double* a, const double* b,
                                                     const double* c, double s,
                                                     std::int64_t n) {
  const __m512d factor = _mm512_set1_pd(s);
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm512_storeu_pd(a + i, _mm512_fmadd_pd(factor, _mm512_loadu_pd(c + i),
                                            _mm512_loadu_pd(b + i)));
  }
  triad_portably(a + i, b + i, c + i, s, n - i);
}
#endif

std::string first_word(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string word;
  file >> word;
  return word;
}

// "48K" -> 49152; 0 where it is something else.
std::int64_t size_of(const std::string& text) {
  std::size_t end = 0;
  std::int64_t value = 0;
  try {
    value = std::stoll(text, &end);
  } catch (const std::exception&) {
    return 0;
  }
  const std::string unit = text.substr(end);
  if (unit == "K") return value << 10;
  if (unit == "M") return value << 20;
  return unit.empty() ? value : 0;
}

// "0-3,8" -> 5
int cpus_in(const std::string& list) {
  int count = 0;
  std::size_t at = 0;
  while (at < list.size() &&
         std::isdigit(static_cast<unsigned char>(list[at]))) {
    std::size_t used = 0;
    const int first = std::stoi(list.substr(at), &used);
    at += used;
    int last = first;
    if (at < list.size() && list[at] == '-') {
      last = std::stoi(list.substr(++at), &used);
      at += used;
    }
    count += last - first + 1;
    if (at < list.size() && list[at] == ',') ++at;
  }
  return std::max(count, 1);
}

struct Buffers {
  std::vector<double> a, b, c;
  explicit Buffers(std::int64_t n) : a(n, 0.0), b(n, 1.0), c(n, 2.0) {}
};

}  // namespace

std::vector<CacheLevel> data_caches() {
  return data_caches("/sys/devices/system/cpu/cpu0/cache");
}

std::vector<CacheLevel> data_caches(const std::string& folder) {
  std::vector<CacheLevel> caches;
  for (int index = 0;; ++index) {
    const auto place =
        std::filesystem::path(folder) / ("index" + std::to_string(index));
    std::error_code ignored;
    if (!std::filesystem::exists(place / "level", ignored)) break;
    if (first_word(place / "type") == "Instruction") continue;
    CacheLevel cache;
    cache.level = static_cast<int>(size_of(first_word(place / "level")));
    cache.bytes = size_of(first_word(place / "size"));
    cache.shared_by = cpus_in(first_word(place / "shared_cpu_list"));
    if (cache.level > 0 && cache.bytes > 0) caches.push_back(cache);
  }
  std::sort(caches.begin(), caches.end(),
            [](const auto& x, const auto& y) { return x.level < y.level; });
  return caches;
}

std::vector<BandwidthKernels> bandwidth_kernels() {
  std::vector<BandwidthKernels> kernels;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) {
    kernels.push_back({"avx512", read_avx512, triad_avx512});
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    kernels.push_back({"avx2", read_avx2, triad_avx2});
  }
#endif
  kernels.push_back({"portable", read_portably, triad_portably});
  return kernels;
}

Bandwidth measured_bandwidth(std::int64_t bytes, int threads, double seconds) {
  if (bytes < 4096 || threads < 1) {
    throw std::invalid_argument(
        "measured_bandwidth: at least 4096 bytes and 1 thread");
  }
  const BandwidthKernels kernel = bandwidth_kernels().front();
  const std::int64_t n = bytes / 3 / static_cast<std::int64_t>(sizeof(double));
  // Small buffers are passed over many times between two looks at the clock.
  const std::int64_t repeats =
      std::max<std::int64_t>(1, (std::int64_t{8} << 20) / bytes);
  double best_read = std::numeric_limits<double>::infinity();
  double best_triad = best_read;
  bool go_on = true;
  double start = 0, elapsed = 0;
  int passes = 0;
  const double begin = steady_us();

  // Between two barriers all threads run the same kernel; the last to arrive
  // reads the clock.
  enum class At { kReadBegin, kReadEnd, kTriadEnd } at = At::kReadBegin;
  std::barrier meet(threads, [&]() noexcept {
    const double now = steady_us();
    elapsed = now - start;
    if (at == At::kReadEnd) best_read = std::min(best_read, elapsed);
    if (at == At::kTriadEnd) {
      best_triad = std::min(best_triad, elapsed);
      go_on = ++passes < 3 || now - begin < seconds * 1e6;
    }
    at = at == At::kReadBegin ? At::kReadEnd
         : at == At::kReadEnd ? At::kTriadEnd
                              : At::kReadEnd;
    start = steady_us();
  });
  const auto work = [&] {
    Buffers mine(n);  // touched first by the thread that uses it
    meet.arrive_and_wait();
    while (go_on) {
      double total = 0;
      for (std::int64_t r = 0; r < repeats; ++r) {
        for (const auto* array : {&mine.a, &mine.b, &mine.c}) {
          total += kernel.read(array->data(), n);
        }
      }
      volatile double sink = total;  // or the compiler drops the sums
      (void)sink;
      meet.arrive_and_wait();
      for (std::int64_t r = 0; r < repeats; ++r) {
        kernel.triad(mine.a.data(), mine.b.data(), mine.c.data(), 0.5, n);
      }
      meet.arrive_and_wait();
    }
  };
  std::vector<std::jthread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(work);
  work();
  others.clear();

  const double moved = 3.0 * static_cast<double>(n) * sizeof(double) *
                       static_cast<double>(repeats) * threads;
  return {.read_bytes_per_s = moved / (best_read / 1e6),
          .triad_bytes_per_s = moved / (best_triad / 1e6)};
}

}  // namespace dai::intro
