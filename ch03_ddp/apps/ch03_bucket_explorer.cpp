// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdlib>

#include "ch03_ddp/tuning/explorer_options.h"
#include "common/torch/distributed_trace.h"

using namespace dai::ddp;

void prove(dai::App& app, const Exploration& found, bool one_order) {
  std::int64_t bits = 0, off_plan = 0, bytes_off = 0;
  double difference = 0, gradients = 0;
  for (const auto* list : {&found.sizes, &found.trials}) {
    for (const ExploredSize& size : *list) {
      bits = std::max(bits, size.bits_off_rank0);
      gradients = std::max(gradients, size.first_gradients_apart);
      difference = std::max(difference, size.max_parameter_difference);
      off_plan += std::abs(size.collectives -
                           static_cast<std::int64_t>(size.candidate.buckets));
      bytes_off += std::abs(size.bytes - found.model_bytes);
    }
  }
  app.check("bits of the parameters off rank 0's, any size",
            static_cast<double>(bits), 0);
  app.check("first gradients off the default's, of the largest, any size",
            gradients, one_order ? 0 : 1e-5);
  app.check("max|parameter - default's|, any size", difference,
            one_order ? 0 : 1e-2);
  app.check("collectives of a step off the forecast's buckets",
            static_cast<double>(off_plan), 0);
  app.check("bytes of a step off the model's", static_cast<double>(bytes_off),
            0);
  if (app.smoke()) return;  // too few steps to judge times
  app.check("step with tuned buckets / with the default, low end",
            1 / found.confirmed.high, 1.03);
}

void run(dai::App& app, ExplorerAppOptions given) {
  given.compared.settle(app.launch().world_size);
  ExploreOptions options;
  Stage stage = set_stage(app, given.compared, "ch03_bucket_explorer",
                          given.to_string(app.seed()), [&] {
                            options = given.options(app.seed());
                            options.check(app.launch().world_size);
                          });
  dai::ProcessGroup& group = stage.group;
  if (app.tracing()) options.training.trace = &app.trace();
  const Exploration found = explore_buckets(group, stage.corpus, options);
  app.print(found.to_string() + "\n");
  // Two summands have one order; of more, each layout may take another.
  prove(app, found, group.size() <= 2 && group.device().is_cpu());
  for (const auto& [name, value] : found.metrics()) app.metric(name, value);
  app.attach("bucket_sweep", found.sweep());
  if (app.tracing()) {
    app.set_merged_trace(dai::merged_trace(group, app.trace()));
  }
}

int main(int argc, char** argv) {
  ExplorerAppOptions options;
  const dai::AppSpec spec{
      .name = "ch03_bucket_explorer",
      .shows = "what bucket sizes hide and expose; a tuner that finds one",
      .example = "scripts/book run ch03_bucket_explorer -n 2",
      .declare = [&](dai::OptionSet& set) { options.declare(set); }};
  return dai::run_app(argc, argv, spec,
                      [&](dai::App& app) { run(app, options); });
}
