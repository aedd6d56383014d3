// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/roofline/roofline.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "ch01_intro/roofline/bandwidth.h"

namespace dai::intro {
namespace {

Roofline machine() {
  return {.peak_flop_per_s = 100e9,
          .levels = {{"L2", 1'000'000, 50e9}, {"DRAM", 0, 10e9}}};
}

TEST(Roofline, WorkIsBoundByWhatIsSlower) {
  // 1000 operations a byte: compute. 1e9 operations take 10 ms at the peak.
  const Placement dense =
      machine().place({"dense", 1'000'000'000, 1'000'000, 2'000'000, 0.02});
  EXPECT_EQ(dense.bound, Bound::kCompute);
  EXPECT_DOUBLE_EQ(dense.roof_seconds, 0.01);
  EXPECT_DOUBLE_EQ(dense.slowdown, 2);
  EXPECT_DOUBLE_EQ(dense.roof_flop_per_s, 100e9);
  EXPECT_DOUBLE_EQ(dense.flop_per_s, 50e9);
  // A quarter of an operation a byte, out of DRAM: 1e8 bytes take 10 ms.
  const Placement thin =
      machine().place({"thin", 25'000'000, 100'000'000, 100'000'000, 0.01});
  EXPECT_EQ(thin.bound, Bound::kMemory);
  EXPECT_EQ(thin.level, "DRAM");
  EXPECT_DOUBLE_EQ(thin.intensity, 0.25);
  EXPECT_DOUBLE_EQ(thin.slowdown, 1);
  EXPECT_DOUBLE_EQ(thin.roof_flop_per_s, 2.5e9);
}

TEST(Roofline, TheWorkingSetChoosesTheLevel) {
  const Work work{"w", 1, 50'000'000, 1'000'000, 0.001};
  EXPECT_EQ(machine().place(work).level, "L2");
  EXPECT_DOUBLE_EQ(machine().place(work).slowdown, 1);
  Work larger = work;
  larger.working_set_bytes += 1;  // no longer fits
  EXPECT_EQ(machine().place(larger).level, "DRAM");
  EXPECT_DOUBLE_EQ(machine().place(larger).slowdown, 0.2);
}

TEST(Roofline, TheRidgeIsWhereTheRoofsMeet) {
  const Roofline roofline = machine();
  EXPECT_DOUBLE_EQ(roofline.ridge(roofline.levels[1]), 10);
  for (const double intensity : {9.9, 10.1}) {
    const std::int64_t bytes = 100'000'000;
    const auto flops = static_cast<std::int64_t>(intensity * bytes);
    EXPECT_EQ(roofline.place({"w", flops, bytes, bytes, 1}).bound,
              intensity < 10 ? Bound::kMemory : Bound::kCompute);
  }
}

TEST(Roofline, WorkWithoutBytesOrWithoutOperations) {
  EXPECT_TRUE(std::isinf(machine().place({"f", 100, 0, 0, 1}).intensity));
  const Placement copy = machine().place({"copy", 0, 10'000'000, 0, 0.001});
  EXPECT_EQ(copy.bound, Bound::kMemory);
  EXPECT_EQ(copy.flop_per_s, 0);
  EXPECT_DOUBLE_EQ(copy.slowdown, 5);
}

TEST(Roofline, ExponentialsAndCallsHaveRoofsOfTheirOwn) {
  Roofline roofline = machine();
  roofline.exponentials_per_s = 1e9;
  roofline.call_seconds = 1e-6;
  // 10 ms of operations and 5 ms of exponentials, one after the other.
  Work softmax{"softmax", 1'000'000'000, 1000, 1000, 0.03};
  softmax.exponentials = 5'000'000;
  EXPECT_EQ(roofline.place(softmax).bound, Bound::kCompute);
  EXPECT_DOUBLE_EQ(roofline.place(softmax).roof_seconds, 0.015);
  EXPECT_DOUBLE_EQ(roofline.place(softmax).slowdown, 2);
  // 2 ms of operations into pages that take 8 ms to get.
  roofline.fresh_bytes_per_s = 1e9;
  Work large{"large", 200'000'000, 8'000'000, 8'000'000, 0.01};
  large.fresh_bytes = 8'000'000;
  EXPECT_EQ(roofline.place(large).bound, Bound::kPages);
  EXPECT_DOUBLE_EQ(roofline.place(large).roof_seconds, 0.010);
  // Nothing much to do, three times.
  Work tiny{"tiny", 10, 100, 100, 6e-6};
  tiny.calls = 3;
  EXPECT_EQ(roofline.place(tiny).bound, Bound::kOverhead);
  EXPECT_DOUBLE_EQ(roofline.place(tiny).slowdown, 2);
  roofline.call_seconds = -1;
  EXPECT_THROW(roofline.place(tiny), std::invalid_argument);
}

TEST(Roofline, RefusesWhatCannotBe) {
  const Work work{"w", 1, 1, 1, 1};
  const auto refused = [&](Roofline roofline, const Work& w) {
    EXPECT_THROW(roofline.place(w), std::invalid_argument);
  };
  refused({.peak_flop_per_s = 0, .levels = machine().levels}, work);
  refused({.peak_flop_per_s = 1, .levels = {}}, work);
  refused({.peak_flop_per_s = 1, .levels = {{"L2", 10, 1}}}, work);
  refused({.peak_flop_per_s = 1, .levels = {{"x", 0, 1}, {"y", 0, 1}}}, work);
  refused({.peak_flop_per_s = 1,
           .levels = {{"b", 20, 1}, {"a", 10, 1}, {"D", 0, 1}}},
          work);
  refused({.peak_flop_per_s = 1,
           .levels = {{"D", 0, std::numeric_limits<double>::quiet_NaN()}}},
          work);
  refused(machine(), {"w", 0, 0, 0, 1});
  refused(machine(), {"w", 1, 1, 1, 0});
}

// Kernels: whole numbers, so every order of additions gives the same sum.
TEST(Bandwidth, EveryKernelComputesWhatItSays) {
  for (const BandwidthKernels& kernel : bandwidth_kernels()) {
    for (const std::int64_t n : {0, 1, 31, 32, 33, 63, 64, 65, 1000}) {
      std::vector<double> a(n + 1, -1), b(n), c(n);
      std::iota(b.begin(), b.end(), 1.0);
      std::iota(c.begin(), c.end(), 10.0);
      EXPECT_EQ(kernel.read(b.data(), n), n * (n + 1) / 2.0)
          << kernel.name << " " << n;
      kernel.triad(a.data(), b.data(), c.data(), 2, n);
      for (std::int64_t i = 0; i < n; ++i) {
        EXPECT_EQ(a[i], (i + 1) + 2 * (i + 10.0)) << kernel.name << " " << i;
      }
      EXPECT_EQ(a[n], -1) << kernel.name << " wrote behind the end";
    }
  }
  EXPECT_EQ(bandwidth_kernels().back().name, "portable");
}

TEST(Bandwidth, MeasuresSomethingWithOneThreadAndWithThree) {
  for (const int threads : {1, 3}) {
    const Bandwidth b = measured_bandwidth(1 << 16, threads, 0.01);
    EXPECT_TRUE(std::isfinite(b.read_bytes_per_s));
    EXPECT_GT(b.read_bytes_per_s, 1e6);
    EXPECT_GT(b.triad_bytes_per_s, 1e6);
  }
  EXPECT_THROW(measured_bandwidth(100, 1), std::invalid_argument);
  EXPECT_THROW(measured_bandwidth(1 << 20, 0), std::invalid_argument);
}

TEST(DataCaches, ReadsWhatTheKernelTells) {
  const std::filesystem::path root =
      std::filesystem::path(::testing::TempDir()) / "data_caches";
  const auto cache = [&](int index, const char* level, const char* type,
                         const char* size, const char* shared) {
    const auto place = root / ("index" + std::to_string(index));
    std::filesystem::create_directories(place);
    std::ofstream(place / "level") << level << "\n";
    std::ofstream(place / "type") << type << "\n";
    std::ofstream(place / "size") << size << "\n";
    std::ofstream(place / "shared_cpu_list") << shared << "\n";
  };
  cache(0, "1", "Data", "48K", "0");
  cache(1, "1", "Instruction", "32K", "0");
  cache(2, "2", "Unified", "2048K", "0-1");
  cache(3, "3", "Unified", "260M", "0-3,8,10-11");
  const auto caches = data_caches(root.string());
  ASSERT_EQ(caches.size(), 3U);
  EXPECT_EQ(caches[0].bytes, 48 << 10);
  EXPECT_EQ(caches[1].bytes, 2 << 20);
  EXPECT_EQ(caches[1].shared_by, 2);
  EXPECT_EQ(caches[2].bytes, 260 << 20);
  EXPECT_EQ(caches[2].shared_by, 7);
  EXPECT_TRUE(data_caches((root / "nowhere").string()).empty());
  std::filesystem::remove_all(root);
}

}  // namespace
}  // namespace dai::intro
