// SPDX-License-Identifier: Apache-2.0
// The formulas against sums done by hand; that the exchanges keep them is
// checked by ch03_comm_hooks.
#include "ch03_ddp/compression/wire_formula.h"

#include <gtest/gtest.h>

namespace dai::ddp {
namespace {

// Two buckets: 1200 numbers, and 100.
const BucketShapes kBuckets{{{30, 40}}, {{60}, {40}}};

SyncOptions with(const std::string& exchange) {
  return {.exchange = exchange, .powersgd = {.rank = 2, .start_iter = 2}};
}

TEST(WireCost, OfAllReduces) {
  const WireCost plain = wire_cost(with("all_reduce"), kBuckets, 12, 4);
  EXPECT_EQ(plain.handed, 4 * 1300);
  EXPECT_EQ(plain.sent, 2 * 0.75 * 4 * 1300);
  const WireCost half = wire_cost(with("bf16"), kBuckets, 12, 4);
  EXPECT_EQ(half.sent, plain.sent / 2);
  EXPECT_EQ(wire_cost(with("fp16"), kBuckets, 12, 4).handed, half.handed);
}

TEST(WireCost, PowerSgdSendsFactorsAndWhatItLeaves) {
  // (30 + 40) * 2 numbers for the matrix; the vectors as they are.
  EXPECT_EQ(wire_cost(with("powersgd"), kBuckets, 12, 2).handed,
            4 * (70 * 2 + 100));
}

TEST(WireCost, Int8SendsWholeBlocksAndTheirScales) {
  // At two ranks slices of 600 and 50 numbers: 3 blocks and 1, 260 bytes each.
  const WireCost cost = wire_cost(with("int8"), kBuckets, 12, 2);
  EXPECT_EQ(cost.handed, (2 + 1) * 4 * 260);
  EXPECT_EQ(cost.sent, (1 + 1) * 4 * 260);
}

TEST(WireCost, CanonicalShipsSubtrees) {
  // 12 microbatches on 2 ranks: 4 + 2 and 2 + 4, two subtrees each.
  const WireCost two = wire_cost(with("canonical"), kBuckets, 12, 2);
  EXPECT_EQ(two.handed, 4 * (2 * 1300 + 650));
  EXPECT_EQ(two.sent, 4 * (1300 + 650));
  // 16 on 4: one each, an all_reduce's bytes.
  EXPECT_EQ(wire_cost(with("canonical"), kBuckets, 16, 4).sent,
            wire_cost(with("all_reduce"), kBuckets, 16, 4).sent);
}

TEST(WireCost, AloneNothingIsSent) {
  for (const std::string& exchange : exchange_names()) {
    EXPECT_EQ(wire_cost(with(exchange), kBuckets, 12, 1).sent, 0) << exchange;
  }
}

TEST(WireCost, OfNothingKnownThereIsNone) {
  EXPECT_THROW(wire_cost(with("fp8"), kBuckets, 12, 2), std::invalid_argument);
}

}  // namespace
}  // namespace dai::ddp
