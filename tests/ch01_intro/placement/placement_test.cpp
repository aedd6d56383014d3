// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <numeric>
#include <stdexcept>

#include "ch01_intro/placement/layer_work.h"
#include "ch01_intro/placement/placed_layers.h"
#include "ch01_intro/profile/analytic_flops.h"
#include "ch01_intro/recorded/recorded.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

const LayerWork& layer(const std::vector<LayerWork>& layers,
                       const std::string& name) {
  for (const LayerWork& l : layers) {
    if (l.work.name == name) return l;
  }
  throw std::runtime_error("no layer " + name);
}

DecoderConfig tiny() {
  return {.name = "tiny",
          .vocab_size = 100,
          .hidden = 12,
          .layers = 3,
          .heads = 3,
          .kv_heads = 1,
          .ffn = 20,
          .max_positions = 16};
}

TEST(LayerWork, BytesAndOperationsByHand) {
  // 2 x 5 tokens; head_dim 4.
  const auto layers = decoder_layers(tiny(), {.batch = 2, .sequence = 5});
  const Work k = layer(layers, "k_proj").work;
  EXPECT_EQ(k.flops, 2 * 10 * 12 * 4);
  EXPECT_EQ(k.bytes, 4 * (10 * 12 + 12 * 4 + 10 * 4));
  const Work norm = layer(layers, "input norm").work;
  EXPECT_EQ(norm.bytes, 4 * 7 * 120);
  EXPECT_EQ(layer(layers, "rope of k").work.bytes, 4 * 9 * 40);
  EXPECT_EQ(layer(layers, "swiglu").work.bytes, 4 * 5 * 200);
  EXPECT_EQ(layer(layers, "swiglu").work.exponentials, 200);
  // 15 scores of each of 3 heads and 2 sequences, 4 x head_dim each.
  const Work attention = layer(layers, "attention").work;
  EXPECT_EQ(attention.exponentials, 2 * 3 * 15);
  EXPECT_EQ(attention.flops, 16 * 2 * 3 * 15);
  EXPECT_EQ(attention.bytes, 4 * (120 + 40 + 40 + 120));
  EXPECT_EQ(layer(layers, "head and loss").work.bytes,
            4 * (120 + 1200 + 3 * 1000));
  EXPECT_EQ(layer(layers, "embedding").work.flops, 0);
}

TEST(LayerWork, TheFusedRungMovesLessAndComputesTheSame) {
  const auto naive = decoder_layers(tiny(), {.batch = 2, .sequence = 5});
  const auto fused =
      decoder_layers(tiny(), {.batch = 2, .sequence = 5, .fused = true});
  ASSERT_EQ(naive.size(), fused.size());
  for (std::size_t i = 0; i < naive.size(); ++i) {
    EXPECT_EQ(naive[i].work.flops, fused[i].work.flops);
    EXPECT_EQ(naive[i].work.exponentials, fused[i].work.exponentials);
    EXPECT_LE(fused[i].work.bytes, naive[i].work.bytes);
  }
  EXPECT_EQ(layer(fused, "rope of q").work.bytes, 4 * 2 * 120);
}

TEST(LayerWork, ProductsAreThoseOfTheAnalyticCount) {
  for (const std::string name : {"nano-1m", "bench-9m", "llama-8b"}) {
    const DecoderConfig config = decoder_config(name);
    const LayerShapes shapes{.batch = 4, .sequence = 96};
    std::int64_t products = 0;
    for (const LayerWork& l : decoder_layers(config, shapes)) {
      products += l.count * l.product_flops;
    }
    const StepFlops analytic =
        analytic_flops(config, shapes.batch, shapes.sequence);
    EXPECT_EQ(products, analytic.forward() - analytic.term("attention").forward)
        << name;
  }
}

TEST(LayerWork, OnlyTensorsAbove32MibNeedFreshPages) {
  DecoderConfig config = tiny();
  config.vocab_size = 1 << 20;
  config.hidden = 12;
  const auto fresh = [&](std::int64_t batch, bool fused) {
    return layer(decoder_layers(
                     config, {.batch = batch, .sequence = 1, .fused = fused}),
                 "head and loss")
        .work.fresh_bytes;
  };
  EXPECT_EQ(fresh(8, false), 0);  // 32 MiB of logits
  EXPECT_EQ(fresh(9, false), 2 * 9 * (std::int64_t{4} << 20));
  EXPECT_EQ(fresh(9, true), 0);
}

TEST(LayerWork, RefusesMorePositionsThanThereAre) {
  EXPECT_THROW(decoder_layers(tiny(), {.batch = 1, .sequence = 17}),
               UsageError);
  EXPECT_THROW(decoder_layers(tiny(), {.batch = 0, .sequence = 1}), UsageError);
}

// Each layer took `slowdown` times its roof.
LayerMeasurement machine(double slowdown) {
  LayerMeasurement m{.device = "cpu",
                     .decoder = "nano-1m",
                     .shapes = {.batch = 2, .sequence = 64}};
  MatmulTrial best{.shape = {512, 512, 512},
                   .best_seconds = 0.002,
                   .median_seconds = 0.003,
                   .repetitions = 4,
                   .refined = true};
  m.peaks["fp32"] = {.best = best, .tried = {best}, .skipped = 1};
  m.levels = {{"L2", 1 << 20, 200e9}, {"DRAM", 0, 20e9}};
  m.exponentials_per_s = 4e9;
  m.call_seconds = 1e-9;
  m.fresh_bytes_per_s = 2e9;
  for (const LayerWork& l :
       decoder_layers(decoder_config(m.decoder), m.shapes)) {
    Work work = l.work;
    work.seconds = 1;
    const double roof = m.roofline().place(work).roof_seconds;
    m.layers.push_back(
        {work.name, {slowdown * roof, slowdown * roof, 9 * roof}});
  }
  return m;
}

TEST(PlacedLayers, InsideIsOneToTwoTimesTheRoof) {
  EXPECT_EQ(judge_roofline(machine(1.5)).outside_share, 0);
  EXPECT_EQ(judge_roofline(machine(2.1)).outside_share, 1);
  EXPECT_EQ(judge_roofline(machine(0.9)).outside_share, 1);  // roof too low
}

TEST(PlacedLayers, ABlocksLayerCountsInEveryBlock) {
  LayerMeasurement m = machine(1.5);
  const std::int64_t blocks = decoder_config(m.decoder).layers;
  for (double& s : m.layers[2].seconds) s *= 3;
  const RooflineVerdict verdict = judge_roofline(m);
  std::int64_t all = 0;
  for (const PlacedLayer& l : verdict.layers) all += l.count;
  EXPECT_EQ(all, 15 * blocks + 3);
  EXPECT_DOUBLE_EQ(verdict.outside_share,
                   static_cast<double>(blocks) / static_cast<double>(all));
  EXPECT_FALSE(verdict.layers[2].inside);
  double time = 0;
  for (const PlacedLayer& l : verdict.layers) time += l.time_share;
  EXPECT_NEAR(time, 1, 1e-12);
  EXPECT_DOUBLE_EQ(verdict.outside_time_share, verdict.layers[2].time_share);
}

TEST(PlacedLayers, AMissingOrForeignLayerIsRefused) {
  LayerMeasurement m = machine(1.5);
  m.layers.pop_back();
  EXPECT_THROW(judge_roofline(m), std::invalid_argument);
  m = machine(1.5);
  m.layers[3].name = "another";
  EXPECT_THROW(judge_roofline(m), std::invalid_argument);
  m = machine(1.5);
  m.peaks.clear();
  EXPECT_THROW(judge_roofline(m), std::invalid_argument);
  m = machine(1.5);
  m.decoder = "nobody";
  EXPECT_THROW(judge_roofline(m), UsageError);
}

TEST(PlacedLayers, JsonKeepsTheVerdict) {
  const LayerMeasurement m = machine(1.5);
  const auto json = nlohmann::json::parse(to_json(m).dump());
  const LayerMeasurement read = layer_measurement_from_json(json, "test");
  const RooflineVerdict a = judge_roofline(m), b = judge_roofline(read);
  for (std::size_t i = 0; i < a.layers.size(); ++i) {
    EXPECT_NEAR(a.layers[i].placement.slowdown, b.layers[i].placement.slowdown,
                1e-2);
  }
  EXPECT_EQ(read.peaks.at("fp32").best.shape, m.peaks.at("fp32").best.shape);
  EXPECT_EQ(read.peaks.at("fp32").skipped, 1);
  for (const char* key : {"levels", "layers", "peaks", "ops", "batch"}) {
    nlohmann::json spoilt = json;
    spoilt[key] = nullptr;
    EXPECT_THROW(layer_measurement_from_json(spoilt, "test"), UsageError)
        << key;
  }
}

TEST(PlacedLayers, ChartAndTablesHoldEveryLayer) {
  const LayerMeasurement m = machine(1.5);
  const RooflineVerdict verdict = judge_roofline(m);
  const auto chart = roofline_chart(m, verdict);
  EXPECT_EQ(chart["points"].size(), m.layers.size());
  EXPECT_EQ(chart["levels_bytes_per_s"]["L2"], 200e9);
  EXPECT_THAT(layer_table(verdict), ::testing::HasSubstr("rope of k"));
  EXPECT_THAT(roof_table(m), ::testing::HasSubstr("achievable peak, fp32"));
}

TEST(PlacedLayers, TheCommittedMeasurementHolds) {
  const std::string path = recorded_path("roofline.json");
  const Recorded recorded = read_recorded(path, "ch01_roofline");
  const RooflineVerdict verdict =
      judge_roofline(layer_measurement_from_json(recorded.data, path));
  EXPECT_LE(verdict.outside_share, kOutsideShare);
}

}  // namespace
}  // namespace dai::intro
