// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/placement/layer_times.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "ch01_intro/placement/machine_roofs.h"

namespace dai::intro {
namespace {

constexpr LayerShapes kShapes{.batch = 2, .sequence = 16};

TEST(LayerTimes, EveryLayerOfTheDecoderIsTimed) {
  LayerMeasurement m;
  measure_roofs({.search = {.smallest = 32, .largest = 64, .seconds = 0.05},
                 .bandwidth_seconds = 0.001,
                 .memory_bytes = 1 << 20},
                m);
  time_layers({.seconds = 0}, decoder_config("nano-1m"), kShapes, m);
  EXPECT_EQ(m.peaks.size(), 2U);
  EXPECT_GT(m.call_seconds, 0);
  EXPECT_EQ(m.levels.back().capacity_bytes, 0);
  // Names and order are those of the shapes, or this throws.
  const RooflineVerdict verdict = judge_roofline(m);
  for (const LayerTimes& layer : m.layers) {
    EXPECT_GE(layer.seconds.size(), 5U) << layer.name;
  }
  EXPECT_EQ(verdict.layers.size(), m.layers.size());
}

TEST(LayerTimes, TheShapesProductsAreThoseThatTheDispatcherSees) {
  for (const char* name : {"nano-1m", "odd-1m"}) {
    const DecoderConfig config = decoder_config(name);
    EXPECT_EQ(counted_product_flops({}, config, kShapes),
              expected_product_flops(config, kShapes))
        << name;
  }
}

TEST(LayerTimes, RungsAreNotMixedUp) {
  LayerMeasurement m;
  EXPECT_THROW(time_layers({}, decoder_config("nano-1m"),
                           {.batch = 1, .sequence = 8, .fused = true}, m),
               std::invalid_argument);
}

}  // namespace
}  // namespace dai::intro
