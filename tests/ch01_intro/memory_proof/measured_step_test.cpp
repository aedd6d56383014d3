// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory_proof/measured_step.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>

#include "ch01_intro/memory_proof/ledger_tables.h"
#include "common/errors.h"
#include "common/torch/device.h"

namespace dai::intro {
namespace {

using C = MemoryCategory;

struct Shape {
  const char* model;
  std::int64_t batch, seq;
  bool bf16 = false;
};

class MeasuredSteps : public ::testing::TestWithParam<std::tuple<Shape, Rung>> {
 protected:
  void SetUp() override { set_deterministic_threads(); }
};

TEST_P(MeasuredSteps, EqualThePlan) {
  const auto& [shape, rung] = GetParam();
  const PlanSetup setup{decoder_config(shape.model), shape.batch, shape.seq,
                        rung, shape.bf16};
  const MemoryPlan plan = plan_memory(setup);
  const MeasuredStep measured = measure_steps(setup, 2, 1234, at::kCPU);
  for (const C c :
       {C::kParameters, C::kGradients, C::kOptimizer, C::kBuffers}) {
    EXPECT_EQ(measured.states[c], plan.total(c)) << to_string(c);
  }
  EXPECT_EQ(measured.activations, plan.total(C::kActivations));
  EXPECT_LE(worst_peak_error(plan, measured), 0.05)
      << comparison_table(plan, measured);
  EXPECT_EQ(measured.unexplained, 0);
  EXPECT_EQ(leaked_bytes(measured), 0);
  EXPECT_EQ(measured.report.at_end[C::kActivations], 0);
}

// Grouped queries, odd sizes, more tokens than vocabulary and one token.
INSTANTIATE_TEST_SUITE_P(
    Shapes, MeasuredSteps,
    ::testing::Combine(::testing::Values(Shape{"nano-1m", 2, 64},
                                         Shape{"nano-1m", 8, 200},
                                         Shape{"odd-1m", 3, 37},
                                         Shape{"odd-1m", 1, 1},
                                         Shape{"medium-28m", 2, 16},
                                         Shape{"nano-1m", 2, 64, true},
                                         Shape{"odd-1m", 3, 37, true}),
                       ::testing::Values(Rung::kNaive, Rung::kFused)),
    [](const auto& info) {
      const Shape& shape = std::get<0>(info.param);
      const Rung rung = std::get<1>(info.param);
      std::string name = std::string(shape.model) + "_" +
                         std::to_string(shape.batch) + "x" +
                         std::to_string(shape.seq) + "_" + to_string(rung) +
                         (shape.bf16 ? "_bf16" : "");
      for (char& c : name) c = c == '-' ? '_' : c;
      return name;
    });

TEST(MeasuredStep, AnUntiedHeadHasStatesOfItsOwn) {
  set_deterministic_threads();
  PlanSetup setup{decoder_config("nano-1m"), 2, 32, Rung::kNaive};
  setup.config.tied_embeddings = false;
  const MemoryPlan plan = plan_memory(setup);
  const MeasuredStep measured = measure_steps(setup, 2, 1234, at::kCPU);
  EXPECT_EQ(states_error(plan, measured), 0);
  EXPECT_EQ(measured.activations, plan.total(C::kActivations));
  EXPECT_LE(worst_peak_error(plan, measured), 0.05)
      << comparison_table(plan, measured);
}

TEST(MeasuredStep, TimelineAndModulesHoldThePeak) {
  set_deterministic_threads();
  const PlanSetup setup{decoder_config("nano-1m"), 2, 32, Rung::kNaive};
  const MeasuredStep measured = measure_steps(setup, 2, 1234, at::kCPU);
  const auto json = timeline_json(measured.report);
  ASSERT_EQ(json["bytes"].size(), kMemoryCategories);
  ASSERT_EQ(json["phases"].size(), 2U * 4);
  std::int64_t peak = 0;
  for (std::size_t i = 0; i < json["ms"].size(); ++i) {
    std::int64_t live = 0;
    for (const auto& values : json["bytes"]) {
      live += values[i].get<std::int64_t>();
    }
    peak = std::max(peak, live);
  }
  EXPECT_EQ(peak, measured.report.peak.total());
  EXPECT_NE(module_table(measured.report, 3).find("more"), std::string::npos);
}

}  // namespace
}  // namespace dai::intro
