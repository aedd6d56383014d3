// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/schedule/step_cost.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "common/embedded.h"
#include "common/timer.h"

DAI_EMBEDDED(recorded_cost_json);

namespace dai::paged {
namespace {

// Gaussian elimination with pivots, of as many unknowns as `use` has; the
// others are 0.
std::array<double, 3> solve(const std::vector<MeasuredStep>& steps,
                            const std::vector<std::size_t>& use) {
  const std::size_t n = use.size();
  std::vector<std::vector<double>> m(n, std::vector<double>(n + 1));
  for (const MeasuredStep& step : steps) {
    // Each equation over its own time: relative errors.
    const std::array<double, 3> x{1 / step.ms, step.tokens / step.ms,
                                  step.context / step.ms};
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) m[i][j] += x[use[i]] * x[use[j]];
      m[i][n] += x[use[i]];
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    std::size_t pivot = i;
    for (std::size_t r = i; r < n; ++r) {
      if (std::abs(m[r][i]) > std::abs(m[pivot][i])) pivot = r;
    }
    std::swap(m[i], m[pivot]);
    if (m[i][i] == 0) throw std::invalid_argument("steps that are all alike");
    for (std::size_t r = 0; r < n; ++r) {
      if (r == i) continue;
      const double factor = m[r][i] / m[i][i];
      for (std::size_t c = i; c <= n; ++c) m[r][c] -= factor * m[i][c];
    }
  }
  std::array<double, 3> solution{};
  for (std::size_t i = 0; i < n; ++i) solution[use[i]] = m[i][n] / m[i][i];
  return solution;
}

}  // namespace

double StepCost::of(const StepPlan& plan) const {
  double context = 0;
  for (const PlanRow& row : plan.rows) {
    context += static_cast<double>(row.context());
  }
  return of(static_cast<double>(plan.tokens.size()), context);
}

double StepCost::worst_error() const {
  double worst = 0;
  for (const MeasuredStep& step : from) {
    worst = std::max(
        worst, std::abs(of(step.tokens, step.context) - step.ms) / step.ms);
  }
  return worst;
}

StepCost fit_step_cost(const std::vector<MeasuredStep>& steps) {
  if (steps.size() < 3) throw std::invalid_argument("at least three steps");
  std::vector<std::size_t> use{0, 1, 2};
  std::array<double, 3> found = solve(steps, use);
  // What came out negative is noise around nothing: without it, again.
  while (use.size() > 1) {
    const auto negative = std::find_if(
        use.begin(), use.end(), [&](std::size_t i) { return found[i] < 0; });
    if (negative == use.end()) break;
    use.erase(negative);
    found = solve(steps, use);
  }
  return {found[0], found[1], found[2], steps};
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
  std::vector<MeasuredStep> steps;
  for (const StepShape& shape :
       {StepShape{1, 1, 15}, StepShape{4, 1, 15}, StepShape{16, 1, 15},
        StepShape{16, 1, 255}, StepShape{1, 64, 0}, StepShape{1, 128, 0},
        StepShape{1, 64, 448}}) {
    steps.push_back(
        {static_cast<double>(shape.rows * shape.count),
         static_cast<double>(shape.rows * (shape.position + shape.count)),
         measured_step_ms(runner, shape, repeats)});
  }
  return fit_step_cost(steps);
}

StepCost recorded_step_cost() {
  const auto json = nlohmann::json::parse(embedded_recorded_cost_json());
  std::vector<MeasuredStep> steps;
  for (const auto& step : json.at("steps")) {
    steps.push_back({step.at(0), step.at(1), step.at(2)});
  }
  return fit_step_cost(steps);
}

}  // namespace dai::paged
