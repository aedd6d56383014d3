// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory_plan/scale_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "common/errors.h"

namespace dai::intro {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ScaleTable, DevicesHoldWhatIsNeededAndOneFewerDoesNot) {
  const ScaleAssumptions assume;
  for (const ScaleRow& row : scale_rows(decoder_config_names(), assume)) {
    for (const double size : assume.device_gb) {
      const auto devices =
          static_cast<double>(devices_for(row.train_bytes(), size));
      const auto bytes = static_cast<double>(row.train_bytes());
      EXPECT_GE(devices * size * 1e9, bytes) << row.config.name;
      EXPECT_LT((devices - 1) * size * 1e9, bytes) << row.config.name;
    }
  }
}

TEST(ScaleTable, RecomputingKeepsLess) {
  for (const ScaleRow& row :
       scale_rows({"llama-1b", "llama-8b", "llama-405b"}, {})) {
    EXPECT_LT(row.recomputed, row.without_attention);
    EXPECT_LT(row.without_attention, row.activations);
    EXPECT_EQ(row.kv, row.kv_token * row.seq);
  }
}

TEST(ScaleTable, AFloatRecipeDoublesTheActivations) {
  const ScaleRow half = scale_rows({"llama-8b"}, {.recipe = "bf16-18"})[0];
  const ScaleRow whole = scale_rows({"llama-8b"}, {.recipe = "fp32"})[0];
  EXPECT_EQ(whole.recomputed, 2 * half.recomputed);
  EXPECT_EQ(whole.kv, half.kv);  // served in bfloat16 either way
}

TEST(ScaleTable, SequencesAreCutToTheDecodersPositions) {
  const auto rows = scale_rows({"nano-1m", "llama-8b"}, {.seq = 8192});
  EXPECT_EQ(rows[0].seq, 512);
  EXPECT_EQ(rows[1].seq, 8192);
}

TEST(ScaleTable, TablesAndNumbersNameEveryModelAndDevice) {
  const ScaleAssumptions assume{.device_gb = {24, 141}};
  const auto rows = scale_rows({"llama-8b", "llama-70b"}, assume);
  const std::string text = scale_tables(rows, assume);
  EXPECT_THAT(text, HasSubstr("llama-70b"));
  EXPECT_THAT(text, HasSubstr("of 141 GB"));
  const auto json = scale_json(rows, assume);
  EXPECT_EQ(json["devices"].size(), 2U);
  EXPECT_EQ(json["bytes"]["llama-8b"]["weights"], 16'060'522'496);
}

TEST(ScaleTable, WhatMakesNoSenseIsRefused) {
  EXPECT_THAT(parse_device_gb("8,24.5"), ElementsAre(8, 24.5));
  for (const char* bad : {"", "8,", "8,,24", "0", "-1", "80GB", "inf", "nan"}) {
    EXPECT_THROW(parse_device_gb(bad), UsageError) << bad;
  }
  const auto refuses = [](const ScaleAssumptions& assume) {
    EXPECT_THROW(scale_rows({"llama-8b"}, assume), UsageError);
  };
  refuses({.recipe = "int3"});
  refuses({.batch = 0});
  refuses({.seq = 0});
  refuses({.tokens = 0});
  refuses({.mfu = 0});
  refuses({.mfu = 1.01});
  refuses({.peak_tflops = -1});
  refuses({.peak_tflops = std::numeric_limits<double>::infinity()});
  refuses({.device_gb = {}});
  EXPECT_THROW(scale_rows({"llama-9b"}, {}), UsageError);
}

}  // namespace
}  // namespace dai::intro
