// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/placement/machine_roofs.h"

#include <ATen/Parallel.h>
#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "ch01_intro/decoder/decoder_kernels.h"
#include "ch01_intro/decoder/row_ranges.h"
#include "ch01_intro/roofline/bandwidth.h"
#include "ch01_intro/roofline/device_timer.h"
#include "ch01_intro/roofline/matmul_peak.h"

namespace dai::intro {
namespace {

double fastest(at::Device device, const std::function<void()>& work,
               double seconds) {
  const auto times = repeat_timed(device, work, seconds);
  return *std::min_element(times.begin(), times.end());
}

double best_bandwidth(std::int64_t bytes, int threads, double seconds) {
  const Bandwidth b = measured_bandwidth(bytes, threads, seconds);
  return std::max(b.read_bytes_per_s, b.triad_bytes_per_s);
}

std::vector<MemoryLevel> cpu_levels(const RoofOptions& options, int threads) {
  std::vector<MemoryLevel> levels;
  std::int64_t last = 0;
  for (const CacheLevel& cache : data_caches()) {
    if (cache.level < 2) continue;  // no layer is that small
    // As many of them as the threads spread over.
    const std::int64_t caches =
        (threads + cache.shared_by - 1) / cache.shared_by;
    last = cache.bytes * caches;
    double best = 0;
    for (const int quarters : {1, 2, 3}) {
      best = std::max(best, best_bandwidth(last * quarters / 4 / threads,
                                           threads, options.bandwidth_seconds));
    }
    // Usable is what was measured: beyond, code, stacks and the placement of
    // pages push data out.
    levels.push_back({fmt::format("L{}", cache.level), last * 3 / 4, best});
  }
  const std::int64_t memory = options.memory_bytes > 0
                                  ? options.memory_bytes
                                  : std::max(4 * last, std::int64_t{256} << 20);
  levels.push_back(
      {"DRAM", 0,
       best_bandwidth(memory / threads, threads, options.bandwidth_seconds)});
  return levels;
}

std::vector<MemoryLevel> device_levels(at::Device device, double seconds) {
  constexpr std::int64_t kElements = std::int64_t{1} << 28;  // 1 GiB
  const at::Tensor a =
      at::ones({kElements}, at::TensorOptions(device).dtype(at::kFloat));
  const at::Tensor b = at::ones_like(a);
  at::Tensor c = at::empty_like(a);
  const auto bytes = static_cast<double>(a.nbytes());
  const double read = bytes / fastest(device, [&] { a.sum(); }, seconds);
  const double triad =
      3 * bytes / fastest(device, [&] { at::add_out(c, a, b, 0.5); }, seconds);
  return {{"HBM", 0, std::max(read, triad)}};
}

// By the fastest code that we know of, PyTorch's or the decoder's own. Small
// enough for the second-level cache, so that memory is no limit.
double exponentials_per_s(int threads, double seconds) {
  const std::int64_t count = std::int64_t{1} << 15;
  const at::Tensor x = at::zeros({count * threads}, at::kFloat);
  at::Tensor y = at::empty_like(x);
  const DecoderKernels kernels = decoder_kernels().front();
  const auto own = [&] {
    const float* in = x.const_data_ptr<float>();
    float* out = y.data_ptr<float>();
    for_tasks(threads, [&](std::int64_t first, std::int64_t last) {
      kernels.exp(in + first * count, out + first * count,
                  (last - first) * count);
    });
  };
  const double best =
      std::min({fastest(
                    at::kCPU, [&] { at::exp_out(y, x); }, seconds),
                fastest(
                    at::kCPU, [&] { at::sigmoid_out(y, x); }, seconds),
                fastest(
                    at::kCPU, [&] { at::silu_out(y, x); }, seconds),
                fastest(at::kCPU, own, seconds)});
  return static_cast<double>(x.numel()) / best;
}

// What the system takes to find and clear pages: writing a tensor that was
// just made, less writing it once more.
double fresh_bytes_per_s(double seconds) {
  constexpr std::int64_t kElements = std::int64_t{1} << 24;  // 64 MiB
  const double fresh = fastest(
      at::kCPU, [&] { at::empty({kElements}, at::kFloat).fill_(1); }, seconds);
  at::Tensor old = at::empty({kElements}, at::kFloat);
  const double again = fastest(at::kCPU, [&] { old.fill_(1); }, seconds);
  // Huge pages, or a C library that keeps them: then it costs nothing.
  return fresh > 1.1 * again
             ? static_cast<double>(old.nbytes()) / (fresh - again)
             : 0;
}

double call_seconds(at::Device device, double seconds) {
  constexpr int kCalls = 200;
  const at::Tensor one =
      at::ones({1}, at::TensorOptions(device).dtype(at::kFloat));
  return fastest(
             device,
             [&] {
               for (int i = 0; i < kCalls; ++i) at::add(one, one);
             },
             seconds) /
         kCalls;
}

}  // namespace

void measure_roofs(const RoofOptions& options, LayerMeasurement& into) {
  const int threads = at::get_num_threads();
  into.device = options.device.is_cpu() ? "cpu" : "cuda";
  into.threads = threads;
  for (const auto& [name, dtype] :
       {std::pair{"fp32", at::kFloat}, {"bf16", at::kBFloat16}}) {
    into.peaks[name] = achievable_matmul_peak({.device = options.device,
                                               .dtype = dtype,
                                               .search = options.search,
                                               .seed = options.seed});
  }
  into.levels = options.device.is_cpu()
                    ? cpu_levels(options, threads)
                    : device_levels(options.device, options.bandwidth_seconds);
  if (options.device.is_cpu()) {
    into.exponentials_per_s =
        exponentials_per_s(threads, options.bandwidth_seconds);
    into.fresh_bytes_per_s = fresh_bytes_per_s(options.bandwidth_seconds);
  }
  into.call_seconds = call_seconds(options.device, options.bandwidth_seconds);
}

}  // namespace dai::intro
