// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/profile/operator_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <random>
#include <stdexcept>

namespace dai::intro {
namespace {

using Kind = ProfiledEvent::Kind;
using ::testing::ElementsAre;

ProfiledEvent op(std::string name, std::int64_t begin, std::int64_t end,
                 std::int64_t sequence = -1, std::uint64_t thread = 1) {
  return {.name = std::move(name),
          .thread = thread,
          .begin_ns = begin,
          .end_ns = end,
          .sequence = sequence};
}

ProfiledEvent scope(std::string name, std::int64_t begin, std::int64_t end) {
  ProfiledEvent event = op(std::move(name), begin, end);
  event.kind = Kind::kScope;
  return event;
}

ProfiledEvent node(std::string name, std::int64_t begin, std::int64_t end,
                   std::int64_t sequence, std::uint64_t thread = 1) {
  ProfiledEvent event = op(std::move(name), begin, end, sequence, thread);
  event.kind = Kind::kBackwardNode;
  event.forward_thread = 1;
  return event;
}

ProfiledEvent engine(const std::string& name, std::int64_t begin,
                     std::int64_t end, std::int64_t sequence,
                     std::uint64_t thread = 1) {
  return op("autograd::engine::evaluate_function: " + name, begin, end,
            sequence, thread);
}

// name -> forward, backward
std::map<std::string, std::pair<std::int64_t, std::int64_t>> modules(
    const OperatorProfile& profile) {
  std::map<std::string, std::pair<std::int64_t, std::int64_t>> map;
  for (const ModuleRow& row : profile.modules) {
    map[row.name] = {row.forward_ns, row.backward_ns};
  }
  return map;
}

std::int64_t of(const OperatorProfile& profile, OperatorGroup group) {
  return profile.groups.at(static_cast<std::size_t>(group)).self_ns;
}

TEST(OperatorProfile, SelfTimesAndGapsAddUpToTheStep) {
  const OperatorProfile profile =
      sort_events({op("aten::before", 0, 90), scope("step", 100, 200),
                   op("aten::linear", 110, 170), op("aten::mm", 120, 160),
                   op("aten::add", 170, 180), op("aten::after", 210, 220)});
  EXPECT_EQ(profile.steps, 1);
  EXPECT_EQ(profile.wall_ns, 100);
  EXPECT_EQ(profile.self_ns(), 100);
  EXPECT_EQ(of(profile, OperatorGroup::kMatmul), 40);
  EXPECT_EQ(of(profile, OperatorGroup::kDispatch), 20);
  EXPECT_EQ(of(profile, OperatorGroup::kPointwise), 10);
  EXPECT_EQ(of(profile, OperatorGroup::kBetween), 30);
  EXPECT_DOUBLE_EQ(profile.outside_products(), 0.6);
  EXPECT_EQ(profile.operators[0].name, "aten::mm");
  EXPECT_EQ(profile.operators[1].total_ns, 60);
  EXPECT_EQ(profile.operators.size(), 3U);
}

// Against durations of innermost events, nanosecond by nanosecond.
TEST(OperatorProfile, RandomNestingsAddUpToo) {
  std::mt19937 random(1234);
  for (int round = 0; round < 50; ++round) {
    std::vector<ProfiledEvent> events{scope("step", 0, 400)};
    const std::function<void(std::int64_t, std::int64_t, int)> fill =
        [&](std::int64_t begin, std::int64_t end, int depth) {
          while (depth < 5 && begin < end) {
            const std::int64_t from = begin + random() % (end - begin);
            const std::int64_t to = from + random() % (end - from + 1);
            events.push_back(op("aten::" + std::to_string(depth), from, to));
            fill(from + 1, to - 1, depth + 1);  // strictly inside
            begin = to + 1;
          }
        };
    fill(0, 400, 0);
    std::map<std::string, std::int64_t> expected;
    for (std::int64_t t = 0; t < 400; ++t) {
      const ProfiledEvent* innermost = nullptr;
      for (const ProfiledEvent& event : events) {
        if (event.begin_ns <= t && t < event.end_ns) innermost = &event;
      }
      ++expected[innermost->name];
    }
    std::shuffle(events.begin() + 1, events.end(), random);
    const OperatorProfile profile = sort_events(events);
    EXPECT_EQ(profile.self_ns(), 400);
    EXPECT_EQ(profile.escaped, 0);
    for (const OperatorRow& row : profile.operators) {
      EXPECT_EQ(row.self_ns, expected[row.name]) << row.name;
    }
  }
}

TEST(OperatorProfile, BackwardBelongsToTheModuleThatMadeTheNode) {
  const OperatorProfile profile = sort_events(
      {scope("step", 0, 1000),
       // A view that makes no node carries the next one's number as well.
       op("aten::view", 5, 10, 7), scope("layers.0.attention", 10, 100),
       op("aten::linear", 20, 90, 7), op("aten::t", 25, 30, 7),
       op("aten::mm", 40, 80, 8), scope("head", 100, 150),
       op("aten::sum", 110, 140, 9), engine("SumBackward0", 200, 250, 9),
       node("SumBackward0", 210, 240, 9), engine("MmBackward0", 250, 450, 8),
       node("MmBackward0", 260, 440, 8), op("aten::mm", 270, 430, 10),
       engine("TBackward0", 450, 460, 7), node("TBackward0", 451, 459, 7)});
  const auto rows = modules(profile);
  EXPECT_EQ(rows.at("head"), std::make_pair(std::int64_t{50}, 50L));
  EXPECT_EQ(rows.at("layers.0.attention"),
            std::make_pair(std::int64_t{90}, 210L));
  EXPECT_EQ(rows.at("").second, 0);
  EXPECT_THAT(profile.idle_modules({"head", "layers.0.attention", "embed"}),
              ElementsAre("embed"));
}

// They are no operators: the first thing seen of them is what they call, or
// else what comes after them.
TEST(OperatorProfile, NodesOfOwnFunctionsBelongToWhereTheyRan) {
  for (const bool calls_something : {true, false}) {
    const OperatorProfile profile = sort_events(
        {scope("step", 0, 1000), op("aten::add", 2, 6, 6),
         scope("layers.0.attention", 10, 100),
         op("aten::empty", calls_something ? 20 : 60, 70),
         op("aten::linear", 70, 90, 8), scope("head", 100, 150),
         op("aten::sum", 110, 120, 9), engine("RmsNorm", 200, 250, 7),
         node("RmsNorm", 210, 240, 7)});
    EXPECT_EQ(modules(profile).at("layers.0.attention").second, 50);
  }
}

TEST(OperatorProfile, AWeightsGradientBelongsToTheNodeBefore) {
  const OperatorProfile profile = sort_events(
      {scope("step", 0, 1000), scope("head", 10, 100),
       op("aten::mm", 20, 30, 7), scope("embed", 100, 110),
       op("aten::embedding", 101, 109, 8), engine("MmBackward0", 200, 250, 7),
       node("MmBackward0", 210, 240, 7),
       engine("torch::autograd::AccumulateGrad", 250, 270, -1),
       node("torch::autograd::AccumulateGrad", 255, 265, -1)});
  EXPECT_EQ(modules(profile).at("head").second, 70);
}

// On a GPU: a thread of its own, while the step's thread waits.
TEST(OperatorProfile, BackwardOnAnotherThreadFindsItsModule) {
  const OperatorProfile profile =
      sort_events({op("aten::early", 0, 40, -1, 0), scope("step", 50, 1000),
                   scope("head", 110, 200), op("aten::mm", 120, 130, 7),
                   engine("MmBackward0", 300, 400, 7, 0),
                   node("MmBackward0", 310, 390, 7, 0)});
  EXPECT_EQ(modules(profile).at("head").second, 100);
  EXPECT_EQ(profile.other_threads_ns, 100);
  EXPECT_EQ(profile.wall_ns, 950);
  EXPECT_EQ(profile.self_ns(), 950);
}

TEST(OperatorProfile, ARecomputedModuleIsBackwardOfItsOwn) {
  const OperatorProfile profile = sort_events(
      {scope("step", 0, 1000), scope("head", 10, 100),
       op("aten::empty", 20, 30), engine("Again", 200, 300, 7),
       node("Again", 200, 300, 7), scope("layers.1.attention", 220, 260),
       op("aten::mm", 230, 240, 9)});
  EXPECT_EQ(modules(profile).at("layers.1.attention"),
            std::make_pair(std::int64_t{0}, 40L));
}

TEST(OperatorProfile, TheOptimizersScopeDecidesTheKind) {
  const OperatorProfile profile =
      sort_events({scope("step", 0, 100), scope(kOptimizerScope, 10, 90),
                   op("aten::mul_", 20, 50)});
  EXPECT_EQ(of(profile, OperatorGroup::kOptimizer), 30);
  EXPECT_EQ(of(profile, OperatorGroup::kBetween), 70);
}

TEST(OperatorProfile, AnEventThatOutlivesItsParentIsCountedAndCut) {
  const OperatorProfile profile = sort_events(
      {scope("step", 0, 100), op("aten::mm", 10, 50), op("aten::add", 40, 60)});
  EXPECT_EQ(profile.escaped, 1);
  EXPECT_EQ(profile.self_ns(), 100);
}

TEST(OperatorProfile, StepsAddUpAndLayersMerge) {
  const OperatorProfile profile =
      sort_events({scope("step", 0, 100), scope("layers.0.attention", 0, 50),
                   scope("layers.11.attention", 50, 90),
                   scope("step", 200, 300), scope("head", 210, 220)});
  EXPECT_EQ(profile.steps, 2);
  EXPECT_EQ(profile.wall_ns, 200);
  const auto rows = profile.modules_of_all_layers();
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[1].name, "layers.*.attention");
  EXPECT_EQ(rows[1].forward_ns, 90);
}

TEST(OperatorProfile, WithoutAStepThereIsNothingToSort) {
  EXPECT_THROW(sort_events({}), std::invalid_argument);
  EXPECT_THROW(sort_events({op("step", 0, 1)}), std::invalid_argument);
}

TEST(OperatorGroups, ByName) {
  const std::pair<const char*, OperatorGroup> names[] = {
      {"aten::mm", OperatorGroup::kMatmul},
      {"aten::linear", OperatorGroup::kDispatch},
      {"aten::_scaled_dot_product_flash_attention_for_cpu_backward",
       OperatorGroup::kAttention},
      {"aten::rsqrt", OperatorGroup::kNorm},
      {"aten::native_layer_norm_backward", OperatorGroup::kNorm},
      {"aten::_log_softmax_backward_data", OperatorGroup::kLoss},
      {"aten::mul_", OperatorGroup::kPointwise},
      {"aten::silu_backward", OperatorGroup::kPointwise},
      {"aten::fill_", OperatorGroup::kCopy},
      {"aten::embedding_dense_backward", OperatorGroup::kEmbedding},
      {"aten::_fused_adamw_", OperatorGroup::kOptimizer},
      {"MmBackward0", OperatorGroup::kDispatch},
      {"autograd::engine::evaluate_function: MmBackward0",
       OperatorGroup::kDispatch},
      {"dai::rms_norm", OperatorGroup::kNorm},
      {"torch::autograd::CppNode<dai::intro::(anonymous namespace)::SwiGlu>",
       OperatorGroup::kPointwise},
      {"mylib::op", OperatorGroup::kOther}};
  for (const auto& [name, group] : names) {
    EXPECT_STREQ(to_string(group_of(name)), to_string(group)) << name;
  }
}

}  // namespace
}  // namespace dai::intro
