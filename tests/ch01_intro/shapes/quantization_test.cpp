// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/shapes/quantization.h"

#include <gmock/gmock.h>

#include <stdexcept>

#include "ch01_intro/shapes/published_rows.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

TEST(Quantization, OneBlockMoreThanSmsNeedsASecondWave) {
  const Tile tile{256, 128};
  for (const GpuModel& gpu : gpus()) {
    const auto of_blocks = [&](std::int64_t blocks) {
      return quantize({.name = "b", .m = 256, .n = 128 * blocks}, gpu, tile);
    };
    EXPECT_EQ(of_blocks(gpu.sms).waves, 1) << gpu.name;
    EXPECT_DOUBLE_EQ(of_blocks(gpu.sms).efficiency(), 1) << gpu.name;
    EXPECT_EQ(of_blocks(gpu.sms + 1).waves, 2) << gpu.name;
    EXPECT_LT(of_blocks(gpu.sms + 1).wave_efficiency, 0.52) << gpu.name;
  }
}

TEST(Quantization, OneColumnMoreThanATilePaysForAWholeOne) {
  const Quantization q = quantize({.name = "x", .m = 256, .n = 129},
                                  named_gpu("A100"), {256, 128});
  EXPECT_EQ(q.tiles, 2);
  EXPECT_DOUBLE_EQ(q.tile_efficiency, 129.0 / 256);
}

TEST(Quantization, TheNvidiaGuidesSquare) {
  const auto square = [](std::int64_t size) {
    return quantize({.name = "square", .m = size, .n = size}, named_gpu("A100"),
                    {256, 128});
  };
  EXPECT_EQ(square(1792).tiles, 98);
  EXPECT_EQ(square(1792).waves, 1);
  EXPECT_EQ(square(1793).tiles, 120);
  EXPECT_EQ(square(1793).waves, 2);
}

TEST(Quantization, BatchesShareTheWaves) {
  const MatmulDims one{.name = "x", .m = 256, .n = 128, .k = 64, .batch = 54};
  EXPECT_EQ(quantize(one, named_gpu("A100"), {256, 128}).tiles, 54);
  EXPECT_DOUBLE_EQ(quantize(one, named_gpu("A100"), {256, 128}).wave_efficiency,
                   0.5);
}

TEST(Quantization, TheWholeWeighsProductsByTheirWork) {
  const GpuModel gpu{"two", 2, 128};
  // One full wave, and one that is half empty and has a third of the work.
  const MatmulDims full{.name = "full", .m = 256, .n = 256, .k = 3};
  const MatmulDims half{.name = "half", .m = 256, .n = 128, .k = 2};
  EXPECT_DOUBLE_EQ(quantize(full, gpu).efficiency(), 1);
  EXPECT_DOUBLE_EQ(quantize(half, gpu).efficiency(), 0.5);
  EXPECT_DOUBLE_EQ(efficiency({full, half}, gpu), 4.0 / 5);
}

TEST(Quantization, RefusesEmptyProducts) {
  EXPECT_THROW(quantize({.name = "x", .m = 0, .n = 1}, named_gpu("L4")),
               std::invalid_argument);
}

TEST(GpuTable, NamesAreFoundAsPeopleWriteThem) {
  EXPECT_EQ(named_gpu("nvidia a100").sms, 108);
  EXPECT_EQ(named_gpu("rtx 4090").sms, 128);
  EXPECT_EQ(named_gpu("H100").sms, 132);
  EXPECT_EQ(named_gpu("H200").sms, 132);
  EXPECT_EQ(named_gpu("B200").sms, 148);
  EXPECT_EQ(named_gpu("L4").sms, 58);
}

TEST(GpuTable, AnUnknownNameListsAllThereAre) {
  try {
    named_gpu("H1000");
    FAIL();
  } catch (const UsageError& error) {
    for (const GpuModel& gpu : gpus()) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr(gpu.name));
    }
  }
}

TEST(PublishedRows, AllAreReproduced) {
  for (const PublishedRow& row : published_rows()) {
    EXPECT_EQ(row.ours, row.published) << row.source << ": " << row.what;
  }
  EXPECT_EQ(rows_off(published_rows()), 0);
  EXPECT_EQ(rows_off({{"s", "w", 1, 2}, {"s", "w", 1, 1}}), 1);
}

TEST(Arithmetic, RoundsUpAndFindsPowersOfTwo) {
  EXPECT_EQ(round_up(1, 64), 64);
  EXPECT_EQ(round_up(64, 64), 64);
  EXPECT_EQ(ceil_div(7, 2), 4);
  EXPECT_EQ(power_of_two_in(96), 32);
  EXPECT_EQ(power_of_two_in(7), 1);
}

}  // namespace
}  // namespace dai::intro
