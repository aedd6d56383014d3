// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/schedule/step_cost.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "common/embedded.h"
#include "common/errors.h"
#include "common/timer.h"

DAI_EMBEDDED(recorded_cost_json);

namespace dai::paged {
namespace {

MeasuredStep measured(ModelRunner& runner, StepShape shape, int repeats) {
  shape.position =
      std::min(shape.position, runner.max_positions() - shape.count);
  MeasuredStep step;
  for (std::int64_t r = 0; r < shape.rows; ++r) {
    step.size.add(static_cast<double>(shape.count),
                  static_cast<double>(shape.position));
  }
  step.ms = measured_step_ms(runner, shape, repeats);
  return step;
}

}  // namespace

void StepSize::add(double count, double position) {
  tokens += count;
  context += position + count;
  pairs += count * position + count * (count + 1) / 2;
}

StepSize size_of(const StepPlan& plan) {
  StepSize size;
  for (const PlanRow& row : plan.rows) {
    size.add(static_cast<double>(row.count), static_cast<double>(row.position));
  }
  return size;
}

double StepCost::of(const StepSize& size) const {
  const auto above = std::find_if(knots.begin() + 1, knots.end() - 1,
                                  [&](const MeasuredStep& knot) {
                                    return knot.size.tokens >= size.tokens;
                                  });
  const auto looking_back = [&](const StepSize& s) {
    return context_ms * s.context + pair_ms * s.pairs;
  };
  const MeasuredStep &left = *(above - 1), &right = *above;
  const double from = left.ms - looking_back(left.size);
  const double slope = (right.ms - looking_back(right.size) - from) /
                       (right.size.tokens - left.size.tokens);
  return from + slope * (size.tokens - left.size.tokens) + looking_back(size);
}

std::int64_t StepCost::context_per_token() const {
  if (pair_ms <= 0) return 0;
  const double token =
      of(StepSize{.tokens = 256}) - of(StepSize{.tokens = 255});
  return std::max<std::int64_t>(1, std::llround(token / pair_ms));
}

double StepCost::worst_error() const {
  double worst = 0;
  for (const MeasuredStep& step : held_out) {
    worst = std::max(worst, std::abs(of(step.size) - step.ms) / step.ms);
  }
  return worst;
}

double measured_step_ms(ModelRunner& runner, const StepShape& shape,
                        int repeats) {
  if (shape.position + shape.count > runner.max_positions()) {
    throw UsageError(
        fmt::format("a step at position {}: the model has {} positions",
                    shape.position + shape.count - 1, runner.max_positions()));
  }
  const std::int64_t size = runner.block_size();
  const std::int64_t blocks = (shape.position + shape.count + size - 1) / size;
  StepPlan plan;
  plan.block_size = size;
  for (std::int64_t r = 0; r < shape.rows; ++r) {
    plan.rows.push_back({.sequence = r,
                         .first = r * shape.count,
                         .count = shape.count,
                         .position = shape.position,
                         .table = r * blocks,
                         .blocks = blocks,
                         .draws = true});
  }
  plan.tokens.assign(static_cast<std::size_t>(shape.rows * shape.count), 7);
  plan.block_tables.resize(static_cast<std::size_t>(shape.rows * blocks));
  for (std::size_t i = 0; i < plan.block_tables.size(); ++i) {
    plan.block_tables[i] =
        static_cast<BlockId>(static_cast<std::int64_t>(i) % runner.kv_blocks());
  }
  std::vector<float> logits(
      static_cast<std::size_t>(shape.rows * runner.vocab_size()));
  std::vector<double> ms;
  for (int i = 0; i <= repeats; ++i) {  // the first is not counted
    const WallTimer timer;
    runner.run(plan, logits);
    if (i > 0) ms.push_back(timer.ms());
  }
  std::nth_element(ms.begin(), ms.begin() + ms.size() / 2, ms.end());
  return ms[ms.size() / 2];
}

StepCost measure_step_cost(ModelRunner& runner, int repeats) {
  if (runner.max_positions() < 512) {
    throw UsageError(
        fmt::format("a model of {} positions: too short for what a long past "
                    "costs, 512 are needed",
                    runner.max_positions()));
  }
  StepCost cost;
  for (const StepShape& shape :
       {StepShape{1, 1, 15}, StepShape{2, 1, 15}, StepShape{4, 1, 15},
        StepShape{8, 1, 15}, StepShape{16, 1, 15}, StepShape{32, 1, 15},
        StepShape{1, 64, 0}, StepShape{1, 128, 0}, StepShape{1, 256, 0}}) {
    cost.knots.push_back(measured(runner, shape, repeats));
  }
  // Two equations: what a long past costs sixteen tokens of decode, and 128 of
  // a prompt.
  const MeasuredStep &decode = cost.knots[4], &prompt = cost.knots[7];
  const MeasuredStep far = measured(runner, {16, 1, 255}, repeats);
  const MeasuredStep deep = measured(runner, {1, 128, 1920}, repeats);
  const double c1 = far.size.context - decode.size.context;
  const double p1 = far.size.pairs - decode.size.pairs;
  const double c2 = deep.size.context - prompt.size.context;
  const double p2 = deep.size.pairs - prompt.size.pairs;
  const double t1 = far.ms - decode.ms, t2 = deep.ms - prompt.ms;
  const double determinant = c1 * p2 - c2 * p1;
  cost.context_ms = std::max(0.0, (t1 * p2 - t2 * p1) / determinant);
  cost.pair_ms = std::max(0.0, (c1 * t2 - c2 * t1) / determinant);
  for (const StepShape& shape :
       {StepShape{6, 1, 255}, StepShape{1, 96, 160}, StepShape{1, 128, 3968}}) {
    cost.held_out.push_back(measured(runner, shape, repeats));
  }
  return cost;
}

StepCost recorded_step_cost() {
  const auto json = nlohmann::json::parse(embedded_recorded_cost_json());
  const auto steps = [&](const char* name) {
    std::vector<MeasuredStep> list;
    for (const auto& step : json.at(name)) {
      list.push_back({{step.at(0), step.at(1), step.at(2)}, step.at(3)});
    }
    return list;
  };
  return {steps("knots"), json.at("context_ms"), json.at("pair_ms"),
          steps("held_out")};
}

}  // namespace dai::paged
