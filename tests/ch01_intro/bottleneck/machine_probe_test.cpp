// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/bottleneck/machine_probe.h"

#include <gtest/gtest.h>

namespace dai::intro {
namespace {

TEST(MachineProbe, LoadsVisitEveryLineBeforeAnyComesBack) {
  const MachineProbe probe;
  const auto& next = probe.next();
  const std::size_t lines = next.size() / MachineProbe::kStride;
  ASSERT_EQ(lines * 64, static_cast<std::size_t>(MachineProbe::kBytes));
  std::uint32_t at = 0;
  std::size_t steps = 0;
  do {
    at = next[at];
    ASSERT_EQ(at % MachineProbe::kStride, 0U);
    ++steps;
  } while (at != 0 && steps <= lines);
  EXPECT_EQ(steps, lines);
}

TEST(MachineProbe, EveryReadingIsATime) {
  MachineProbe probe;
  for (int i = 0; i < 3; ++i) {
    const MachineProbe::Reading now = probe.read();
    EXPECT_GT(now.fma_us, 0);
    EXPECT_GT(now.random_read_ns, 0);
    EXPECT_GT(now.stream_us_per_mb, 0);
  }
}

}  // namespace
}  // namespace dai::intro
