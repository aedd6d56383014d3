// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/first_run/one_against_all.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "ch01_intro/first_run/collective_check.h"
#include "ch01_intro/first_run/first_run_options.h"
#include "ch01_intro/first_run/same_tokens.h"
#include "ch01_intro/first_run/who_am_i.h"
#include "common/app.h"
#include "common/torch/device.h"
#include "common/torch/distributed_trace.h"
#include "common/torch/process_group.h"

using namespace dai::intro;

void prove(dai::App& app, const std::vector<CollectiveRow>& collectives,
           const OneAgainstAll& both, const Promise& promise) {
  app.check("max|collective - by hand|", worst_error(collectives), 0);
  app.check("max|loss of all ranks - of one|", both.max_loss_difference,
            promise.tolerance);
  app.check("|validation loss of all ranks - of one|",
            both.validation_loss_difference, promise.tolerance);
  app.check("max|parameter of all ranks - of one|",
            both.max_parameter_difference, promise.tolerance);
  if (promise.tolerance == 0) {
    app.check("bits of the parameters off one rank's", both.bits_off_one_rank,
              0);
  }
  app.check("bits of the parameters off rank 0's", both.bits_off_rank0, 0);
  app.check("updates skipped", both.skipped_updates, 0);
  app.check("|first loss / ln(vocabulary) - 1|",
            std::abs(both.first_to_blind_loss() - 1), 0.05);
  if (both.all_ranks_loss.size() >= 8) {  // fewer say nothing of learning
    app.check("last loss / ln(vocabulary)", both.last_to_blind_loss(), 0.9);
  }
}

void run(dai::App& app, const FirstRunAppOptions& options) {
  FirstRunOptions training;
  std::optional<TokenCorpus> corpus;
  dai::ProcessGroup group = dai::ProcessGroup::connect(
      app.launch(), options.distributed,
      [&] {
        training = options.run(app.seed());
        corpus = load_text_corpus(options.corpus(app.seed()), app.cache_dir());
        training.check(*corpus, app.launch().world_size);
      },
      options.to_string(app.seed()));
  require_same_tokens(group, corpus->tokens());
  dai::set_deterministic_threads();
  if (app.tracing()) group.add_observer(dai::make_trace_observer(app.trace()));
  app.print(fmt::format("ch01_first_distributed: {} on {}\n\n{}\n",
                        group.description(),
                        dai::describe_device(group.device()),
                        who_am_i_table(group, app.launch())));

  const auto collectives = check_collectives(group, /*elements=*/16384);
  app.print(collective_table(collectives) + "\n");
  const Reduction reduction = options.reduction_kind();
  const OneAgainstAll both =
      train_one_against_all(group, *corpus, training, reduction,
                            app.tracing() ? &app.trace() : nullptr);
  app.print(both.to_string());
  const Promise promise = what_holds(reduction, group.device());
  app.print("\n" + promise.reason + "\n");
  prove(app, collectives, both, promise);

  for (const auto& [name, value] : both.metrics()) app.metric(name, value);
  app.attach("curves", {{"one_rank", both.one_rank_loss},
                        {"all_ranks", both.all_ranks_loss}});
  app.attach("breakdown_ms", both.scaling.to_json());
  if (app.tracing()) {
    app.set_merged_trace(dai::merged_trace(group, app.trace()));
  }
}

int main(int argc, char** argv) {
  FirstRunAppOptions options;
  const dai::AppSpec spec{
      .name = "ch01_first_distributed",
      .shows = "N ranks train one decoder and compute what one rank computes",
      .example = "scripts/book run ch01_first_distributed -n 2",
      .declare = [&](dai::OptionSet& set) { options.declare(set); }};
  return dai::run_app(argc, argv, spec,
                      [&](dai::App& app) { run(app, options); });
}
