// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/schedule/step_cost.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "common/embedded.h"
#include "common/timer.h"

DAI_EMBEDDED(recorded_cost_json);

namespace dai::paged {
namespace {

MeasuredStep measured(ModelRunner& runner, const StepShape& shape,
                      int repeats) {
  return {static_cast<double>(shape.rows * shape.count),
          static_cast<double>(shape.rows * (shape.position + shape.count)),
          measured_step_ms(runner, shape, repeats)};
}

}  // namespace

double StepCost::of(double tokens, double context) const {
  const auto above = std::find_if(
      knots.begin() + 1, knots.end() - 1,
      [&](const MeasuredStep& knot) { return knot.tokens >= tokens; });
  const MeasuredStep &left = *(above - 1), &right = *above;
  const auto without_context = [&](const MeasuredStep& knot) {
    return knot.ms - context_ms * knot.context;
  };
  const double slope = (without_context(right) - without_context(left)) /
                       (right.tokens - left.tokens);
  return without_context(left) + slope * (tokens - left.tokens) +
         context_ms * context;
}

double StepCost::of(const StepPlan& plan) const {
  double context = 0;
  for (const PlanRow& row : plan.rows) {
    context += static_cast<double>(row.context());
  }
  return of(static_cast<double>(plan.tokens.size()), context);
}

double StepCost::worst_error() const {
  double worst = 0;
  for (const MeasuredStep& step : held_out) {
    worst = std::max(
        worst, std::abs(of(step.tokens, step.context) - step.ms) / step.ms);
  }
  return worst;
}

double measured_step_ms(ModelRunner& runner, const StepShape& shape,
                        int repeats) {
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
  StepCost cost;
  for (const StepShape& shape :
       {StepShape{1, 1, 15}, StepShape{2, 1, 15}, StepShape{4, 1, 15},
        StepShape{8, 1, 15}, StepShape{16, 1, 15}, StepShape{32, 1, 15},
        StepShape{1, 64, 0}, StepShape{1, 128, 0}, StepShape{1, 256, 0}}) {
    cost.knots.push_back(measured(runner, shape, repeats));
  }
  const MeasuredStep& near = cost.knots[4];
  const MeasuredStep far = measured(runner, {16, 1, 255}, repeats);
  cost.context_ms =
      std::max(0.0, (far.ms - near.ms) / (far.context - near.context));
  for (const StepShape& shape :
       {StepShape{6, 1, 255}, StepShape{1, 96, 160}, StepShape{1, 128, 1920},
        StepShape{1, 128, 3968}, StepShape{1, 128, 7872}}) {
    cost.held_out.push_back(measured(runner, shape, repeats));
  }
  return cost;
}

StepCost recorded_step_cost() {
  const auto json = nlohmann::json::parse(embedded_recorded_cost_json());
  const auto steps = [&](const char* name) {
    std::vector<MeasuredStep> list;
    for (const auto& step : json.at(name)) {
      list.push_back({step.at(0), step.at(1), step.at(2)});
    }
    return list;
  };
  return {steps("knots"), json.at("context_ms"), steps("held_out")};
}

}  // namespace dai::paged
