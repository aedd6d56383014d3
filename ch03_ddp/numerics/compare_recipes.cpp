// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/numerics/compare_recipes.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>

#include "ch01_intro/parameter_bits.h"
#include "ch01_intro/statistics/statistics.h"
#include "ch03_ddp/compare/agreement.h"
#include "ch03_ddp/compare/compared_options.h"
#include "common/errors.h"
#include "common/progress.h"
#include "common/report.h"
#include "common/torch/process_group.h"

namespace dai::ddp {
namespace {

std::string steps_text(const std::vector<std::int64_t>& steps) {
  std::vector<std::int64_t> from_one;
  for (const std::int64_t step : steps) from_one.push_back(step + 1);
  return steps.empty() ? "-" : fmt::format("{}", fmt::join(from_one, " "));
}

std::int64_t ranks_that_differ(ProcessGroup& group, const std::string& mine) {
  const auto all = group.gather_strings(mine);
  return std::count_if(all.begin(), all.end(),
                       [&](const auto& other) { return other != all[0]; });
}

RecipeRow row_of(ProcessGroup& group, RecipeTraining& training,
                 std::int64_t validation_windows) {
  const at::Tensor weights =
      intro::flat_parameters(training.parameters()).to(at::kFloat);
  return {
      .name = training.recipe().name,
      .losses = training.losses(),
      .step_ms = intro::median(training.step_ms()),
      .wire_bytes = training.wire_bytes(),
      .bytes_a_parameter = training.bytes_a_parameter(),
      .loss_scale = training.loss_scale(),
      .skipped = training.skipped(),
      .validation_loss = training.validation_loss(validation_windows),
      .ranks_that_skipped_others =
          ranks_that_differ(group, steps_text(training.skipped())),
      .not_finite = static_cast<std::int64_t>(largest_of_ranks(
          group, weights.numel() - weights.isfinite().sum().item<double>())),
      .bits_off_rank0 = most_bits_off_rank0(group, weights)};
}

}  // namespace

void CompareRecipesOptions::check(int ranks) const {
  training.check(ranks);
  scaling.check();
  options.check(sync);
  if (recipes.empty()) throw UsageError("no recipe to compare");
  for (const std::string& name : recipes) recipe(name);
  if (overflow.step >= training.steps || overflow.rank >= ranks) {
    throw UsageError(fmt::format(
        "an overflow in step {} on rank {}, of {} steps and {} ranks",
        overflow.step + 1, overflow.rank, training.steps, ranks));
  }
  check_validation_windows(validation_windows, training.microbatch_size, ranks);
}

RecipeTable compare_recipes(ProcessGroup& group,
                            const intro::TokenCorpus& corpus,
                            const CompareRecipesOptions& options) {
  options.check(group.size());
  require_held_back(corpus, options.validation_windows);
  std::vector<std::unique_ptr<RecipeTraining>> trainings;
  for (const std::string& name : options.recipes) {
    trainings.push_back(std::make_unique<RecipeTraining>(
        recipe(name), group, corpus, options.training, options.sync,
        options.options, options.scaling, options.overflow));
  }
  const std::int64_t steps = options.training.steps;
  Progress progress("train", steps, group.rank() == 0);
  for (std::int64_t step = 0; step < steps; ++step) {
    for (const auto& training : trainings) {
      training->step(step >= options.training.untimed_steps);
    }
    progress.update(step + 1);
  }
  RecipeTable table;
  for (const auto& training : trainings) {
    table.rows.push_back(row_of(group, *training, options.validation_windows));
  }
  return table;
}

std::string RecipeTable::to_string() const {
  Table table({"recipe", "step ms", "MB handed", "bytes a parameter",
               "steps skipped", "loss scale", "loss held back", "gap"});
  for (const RecipeRow& row : rows) {
    table.add_row({row.name, fmt::format("{:.1f}", row.step_ms),
                   fmt::format("{:.3f}", row.wire_bytes / 1e6),
                   fmt::format("{:.1f}", row.bytes_a_parameter),
                   steps_text(row.skipped), fmt::format("{:g}", row.loss_scale),
                   fmt::format("{:.4f}", row.validation_loss),
                   fmt::format("{:+.4f}", gap(row))});
  }
  return table.to_string();
}

std::vector<std::pair<std::string, double>> RecipeTable::metrics() const {
  std::vector<std::pair<std::string, double>> all;
  for (const RecipeRow& row : rows) {
    std::string name = row.name;
    std::replace(name.begin(), name.end(), '-', '_');
    const auto add = [&](const char* what, double value) {
      all.emplace_back(fmt::format("{}_{}", name, what), value);
    };
    add("step_ms", row.step_ms);
    add("wire_bytes", static_cast<double>(row.wire_bytes));
    add("bytes_a_parameter", row.bytes_a_parameter);
    add("skipped_updates", static_cast<double>(row.skipped.size()));
    add("loss_scale", row.loss_scale);
    add("validation_loss_nats", row.validation_loss);
    add("loss_gap_nats", gap(row));
  }
  return all;
}

nlohmann::ordered_json RecipeTable::curves() const {
  nlohmann::ordered_json curves;
  for (const RecipeRow& row : rows) curves[row.name] = row.losses;
  return curves;
}

}  // namespace dai::ddp
