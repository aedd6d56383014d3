// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/perf/bandwidth.h"

#include <gmock/gmock.h>

namespace dai::hardware {
namespace {

// nccl-tests' doc/PERFORMANCE.md, collective by collective.
TEST(BusBandwidth, FactorsAreThoseOfNcclTests) {
  for (const int n : {2, 3, 4, 8}) {
    const double share = (n - 1.0) / n;
    EXPECT_DOUBLE_EQ(bus_factor(Collective::kAllReduce, n), 2 * share);
    EXPECT_DOUBLE_EQ(bus_factor(Collective::kReduceScatter, n), share);
    EXPECT_DOUBLE_EQ(bus_factor(Collective::kAllGather, n), share);
    EXPECT_DOUBLE_EQ(bus_factor(Collective::kAllToAll, n), share);
    EXPECT_DOUBLE_EQ(bus_factor(Collective::kGather, n), share);
    EXPECT_DOUBLE_EQ(bus_factor(Collective::kScatter, n), share);
    EXPECT_EQ(bus_factor(Collective::kBroadcast, n), 1);
    EXPECT_EQ(bus_factor(Collective::kReduce, n), 1);
    EXPECT_EQ(bus_factor(Collective::kSendReceive, n), 1);
  }
}

TEST(BusBandwidth, IsSizeOverTimeTimesTheFactor) {
  const Bandwidth eight = bandwidth(Collective::kAllReduce, 1e9, 0.01, 8);
  EXPECT_DOUBLE_EQ(eight.algbw_gb_per_s, 100);
  EXPECT_DOUBLE_EQ(eight.busbw_gb_per_s, 175);
  EXPECT_EQ(bandwidth(Collective::kAllReduce, 1, 0, 2).algbw_gb_per_s, 0);
}

// The size of what every rank has a part of counts all parts.
TEST(BusBandwidth, SizesCountAllParts) {
  EXPECT_EQ(size_bytes(Collective::kAllReduce, 100, 4, 8), 400);
  EXPECT_EQ(size_bytes(Collective::kBroadcast, 100, 2, 8), 200);
  for (const Collective what :
       {Collective::kAllGather, Collective::kReduceScatter,
        Collective::kAllToAll, Collective::kGather, Collective::kScatter}) {
    EXPECT_EQ(size_bytes(what, 100, 4, 8), 3200) << to_string(what);
  }
}

}  // namespace
}  // namespace dai::hardware
