// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "ch03_ddp/numerics/precision_options.h"
#include "common/torch/distributed_trace.h"

using namespace dai::ddp;

void prove(dai::App& app, const RecipeTable& table, std::int64_t overflow) {
  // The worst of all rows, by its name where it is not perfect.
  const auto check_all = [&](const std::string& what, auto value) {
    const RecipeRow* worst = &table.rows.front();
    for (const RecipeRow& row : table.rows) {
      if (value(row) > value(*worst)) worst = &row;
    }
    const auto most = static_cast<double>(value(*worst));
    app.check(what + (most > 0 ? worst->name : "any recipe"), most, 0);
  };
  check_all("bits of the weights off rank 0's, ",
            [](const auto& row) { return row.bits_off_rank0; });
  check_all("weights that are not finite, ",
            [](const auto& row) { return row.not_finite; });
  check_all("ranks that skipped other steps, ",
            [](const auto& row) { return row.ranks_that_skipped_others; });
  check_all("bytes a parameter off the recipe's, ", [](const auto& row) {
    return std::abs(row.bytes_a_parameter -
                    double(bytes_a_parameter(recipe(row.name))));
  });
  if (overflow >= 0) {
    check_all("overflows that were not skipped, ", [&](const auto& row) {
      return 1 - std::count(row.skipped.begin(), row.skipped.end(), overflow);
    });
  }
  for (const RecipeRow& row : table.rows) {
    // What these lose is what they are there to show.
    if (row.name == "fp16-unscaled" || row.name == "bf16-weights") continue;
    if (&row == &table.rows.front()) continue;
    // Trainings part by themselves (fp32-nudged), and in a smoke run one step
    // of four is skipped until the scale is found.
    app.check("loss gap, " + row.name, table.gap(row), app.smoke() ? 0.2 : 0.1);
  }
}

void run(dai::App& app, PrecisionAppOptions given) {
  const int ranks = app.launch().world_size;
  given.compared.settle(ranks);
  CompareRecipesOptions options;
  Stage stage = set_stage(app, given.compared, "ch03_mixed_precision",
                          given.to_string(app.seed()), [&] {
                            options = given.options(app.seed(), ranks);
                            options.check(ranks);
                          });
  dai::ProcessGroup& group = stage.group;
  if (app.tracing()) options.training.trace = &app.trace();
  const RecipeTable table = compare_recipes(group, stage.corpus, options);
  app.print(table.to_string() + "\n");
  prove(app, table, options.overflow.step);
  for (const auto& [name, value] : table.metrics()) app.metric(name, value);
  app.attach("curves", table.curves());
  if (app.tracing()) {
    app.set_merged_trace(dai::merged_trace(group, app.trace()));
  }
}

int main(int argc, char** argv) {
  PrecisionAppOptions options;
  const dai::AppSpec spec{
      .name = "ch03_mixed_precision",
      .shows = "half precision across ranks: what is kept in which numbers",
      .example = "scripts/book run ch03_mixed_precision -n 2",
      .declare = [&](dai::OptionSet& set) { options.declare(set); }};
  return dai::run_app(argc, argv, spec,
                      [&](dai::App& app) { run(app, options); });
}
