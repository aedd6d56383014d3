// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/bottleneck/machine_probe.h"

#include <array>
#include <numeric>
#include <utility>

#include "ch01_intro/counter_random.h"
#include "ch01_intro/statistics/statistics.h"
#include "common/timer.h"

namespace dai::intro {
namespace {

constexpr std::size_t kSlices = 5;
constexpr int kFmaRounds = 6000;
constexpr int kLoads = 8000;

template <typename Slice>
double median_of_slices(Slice slice) {
  std::array<double, kSlices> values{};
  for (std::size_t i = 0; i < kSlices; ++i) values[i] = slice(i);
  return median(values);
}

// The compiler may not drop a result that this has read.
void use(double value) {
  volatile double sink = value;
  (void)sink;
}

}  // namespace

MachineProbe::MachineProbe()
    : next_(static_cast<std::size_t>(kBytes) / sizeof(std::uint32_t)) {
  // Sattolo's shuffle: always a single cycle.
  std::vector<std::uint32_t> line(next_.size() / kStride);
  std::iota(line.begin(), line.end(), 0U);
  const std::uint64_t key = stream_key(1234, "machine probe");
  for (std::size_t i = line.size() - 1; i > 0; --i) {
    std::swap(line[i], line[mix64(key + i) % i]);
  }
  for (std::size_t i = 0; i < line.size(); ++i) {
    next_[i * kStride] = line[i] * static_cast<std::uint32_t>(kStride);
  }
}

double MachineProbe::fma_slice_us() {
  const double start = steady_us();
  std::array<double, 16> lanes;  // independent chains fill the pipelines
  std::iota(lanes.begin(), lanes.end(), 1.0);
  for (int round = 0; round < kFmaRounds; ++round) {
    for (double& lane : lanes) lane = lane * 0.999 + 0.1;
  }
  use(std::accumulate(lanes.begin(), lanes.end(), 0.0));
  return steady_us() - start;
}

double MachineProbe::random_slice_ns() {
  const double start = steady_us();
  for (int i = 0; i < kLoads; ++i) at_ = next_[at_];
  use(at_);
  return (steady_us() - start) * 1e3 / kLoads;
}

// One load a cache line brings all of it.
double MachineProbe::stream_slice_us_per_mb(std::size_t slice) {
  const std::size_t lines = next_.size() / kStride / kSlices;
  const std::uint32_t* data = next_.data() + slice * lines * kStride;
  const double start = steady_us();
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < lines; ++i) sum += data[i * kStride];
  use(sum);
  return (steady_us() - start) * 1e6 /
         static_cast<double>(lines * kStride * sizeof(std::uint32_t));
}

MachineProbe::Reading MachineProbe::read() {
  Reading now;
  now.fma_us = median_of_slices([&](std::size_t) { return fma_slice_us(); });
  now.stream_us_per_mb = median_of_slices(
      [&](std::size_t slice) { return stream_slice_us_per_mb(slice); });
  now.random_read_ns =
      median_of_slices([&](std::size_t) { return random_slice_ns(); });
  return now;
}

}  // namespace dai::intro
