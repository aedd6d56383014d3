// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/workloads/three_workloads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/errors.h"
#include "common/torch/device.h"

namespace dai::intro {
namespace {

Roofline roofline() {
  return {
      .peak_flop_per_s = 1e11,
      .levels = {{.name = "DRAM", .capacity_bytes = 0, .bytes_per_s = 1e10}}};
}

// Rows that belong where they are: twice the roof's time each.
ThreeWorkloads good() {
  ThreeWorkloads all{.config = decoder_config("bench-9m"),
                     .seq = 128,
                     .context = 128,
                     .roofline = roofline()};
  const auto add = [&](const char* name, std::int64_t batch) {
    all.add(name, batch, 1.0);
    WorkloadRow& row = all.rows.back();
    row.seconds = 2 * row.place.roof_seconds;
    row.place.slowdown = 2;
  };
  add("training", 8);
  add("prefill", 1);
  for (const std::int64_t batch : {1, 4, 16}) add("decode", batch);
  return all;
}

TEST(ThreeWorkloads, GoodPlacementsPass) {
  const WorkloadVerdict verdict = judge(good());
  EXPECT_EQ(verdict.faster_than_roof, 0);
  EXPECT_EQ(verdict.misplaced, 0);
  EXPECT_EQ(verdict.out_of_order, 0);
  EXPECT_EQ(verdict.batching_lost, 0);
}

TEST(ThreeWorkloads, EachFaultIsSeen) {
  ThreeWorkloads all = good();
  all.rows[2].place.slowdown = 0.97;
  EXPECT_EQ(judge(all).faster_than_roof, 1);
  all = good();
  all.rows[0].place.bound = Bound::kMemory;
  EXPECT_EQ(judge(all).misplaced, 1);
  all = good();
  std::swap(all.rows[0].work.flops, all.rows[1].work.flops);
  EXPECT_GE(judge(all).out_of_order, 1);
  all = good();
  all.rows.back().seconds *= 20;
  EXPECT_EQ(judge(all).batching_lost, 1);
  all = good();
  all.rows.erase(all.rows.begin());
  EXPECT_GT(judge(all).misplaced, 0);
}

TEST(ThreeWorkloads, JsonRoundTripKeepsTheVerdict) {
  const ThreeWorkloads all = good();
  const ThreeWorkloads back = ThreeWorkloads::from_json(all.to_json());
  ASSERT_EQ(back.rows.size(), all.rows.size());
  EXPECT_EQ(back.to_table(), all.to_table());
  nlohmann::json wrong = all.to_json();
  wrong["times"][0]["name"] = "training by night";
  EXPECT_THROW(ThreeWorkloads::from_json(wrong), UsageError);
  wrong.erase("levels");
  EXPECT_THROW(ThreeWorkloads::from_json(wrong), UsageError);
}

TEST(ThreeWorkloads, EveryWorkloadIsMeasuredAndPlaced) {
  set_deterministic_threads();
  const ThreeWorkloads all =
      measure_three_workloads({.config = decoder_config("nano-1m"),
                               .batch = 2,
                               .seq = 16,
                               .serve = {1, 2},
                               .repetitions = 1,
                               .decode_steps = 2},
                              roofline(), at::kCPU);
  ASSERT_EQ(all.rows.size(), 4u);  // training, prefill, decode by 1 and 2
  for (const WorkloadRow& row : all.rows) {
    EXPECT_GT(row.seconds, 0) << row.work.name;
    EXPECT_GT(row.place.roof_seconds, 0) << row.work.name;
  }
  EXPECT_THAT(all.to_table(), ::testing::HasSubstr("decode x 2"));
}

}  // namespace
}  // namespace dai::intro
