// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/climb/climb.h"

#include <fmt/format.h>

#include "ch03_ddp/climb/ladder_options.h"
#include "common/app.h"
#include "common/torch/distributed_trace.h"
#include "common/torch/process_group.h"

using namespace dai::ddp;

// Two summands have one order; of more, each rung may take another.
double tolerance(const LadderOptions& options, int ranks, at::Device device) {
  const bool one_order = options.sync.exchange == "canonical" || ranks <= 2;
  return one_order && device.is_cpu() ? 0 : 1e-2;
}

void prove(dai::App& app, const Ladder& ladder, double tolerance) {
  const Rung& first = ladder.rungs.front();
  for (const Rung& rung : ladder.rungs) {
    app.check("bits of the parameters off rank 0's, " + rung.sync,
              static_cast<double>(rung.bits_off_rank0), 0);
    if (&rung == &first) continue;
    app.check(fmt::format("first gradients off {}'s, of the largest, {}",
                          first.sync, rung.sync),
              rung.first_gradients_apart, tolerance == 0 ? 0 : 1e-5);
    app.check(fmt::format("max|parameter - {}'s|, {}", first.sync, rung.sync),
              rung.max_parameter_difference, tolerance);
    if (tolerance == 0) {
      app.check(fmt::format("bits of the parameters off {}'s, {}", first.sync,
                            rung.sync),
                static_cast<double>(rung.bits_off_first_rung), 0);
    }
  }
  app.check("last loss / first, " + first.sync,
            first.losses.back() / first.losses.front(), 0.99);
}

void run(dai::App& app, LadderAppOptions given) {
  given.compared.settle(app.launch().world_size);
  LadderOptions options;
  Stage stage = set_stage(app, given.compared, "ch03_ddp_ladder",
                          given.to_string(app.seed()), [&] {
                            options = given.options(app.seed());
                            options.check(app.launch().world_size);
                          });
  dai::ProcessGroup& group = stage.group;
  if (app.tracing()) options.training.trace = &app.trace();
  const Ladder ladder = climb(group, stage.corpus, options);
  app.print(ladder.to_string() + "\n");
  prove(app, ladder, tolerance(options, group.size(), group.device()));
  for (const auto& [name, value] : ladder.metrics()) app.metric(name, value);
  app.attach("sync_timelines", ladder.timelines());
  if (app.tracing()) {
    app.set_merged_trace(dai::merged_trace(group, app.trace()));
  }
}

int main(int argc, char** argv) {
  LadderAppOptions options;
  const dai::AppSpec spec{
      .name = "ch03_ddp_ladder",
      .shows =
          "four ways to synchronise gradients: equal results, less waiting",
      .example = "scripts/book run ch03_ddp_ladder -n 2",
      .declare = [&](dai::OptionSet& set) { options.declare(set); }};
  return dai::run_app(argc, argv, spec,
                      [&](dai::App& app) { run(app, options); });
}
