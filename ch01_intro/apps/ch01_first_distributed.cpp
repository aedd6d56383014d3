// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/one_against_all.h"

#include <fmt/format.h>

#include "ch01_intro/collective_check.h"
#include "ch01_intro/data_broadcast.h"
#include "ch01_intro/who_am_i.h"
#include "common/app.h"
#include "common/torch/device.h"
#include "common/torch/distributed_trace.h"
#include "common/torch/process_group.h"

using namespace dai::intro;

struct Options {
  FirstTrainingOptions training;
  std::string reduction = "canonical";
  std::string data = kFashionMnistDir;
  dai::DistributedOptions distributed;
};

void declare(dai::OptionSet& set, Options& options) {
  FirstTrainingOptions& training = options.training;
  set.add("--steps", training.steps, "training steps");
  set.add("--microbatches", training.microbatches,
          "microbatches a step, over all ranks; a multiple of their number");
  set.add("--microbatch-size", training.microbatch_size,
          "samples a microbatch");
  set.add("--lr", training.learning_rate, "learning rate");
  set.add("--momentum", training.momentum, "momentum of SGD");
  set.add("--reduction", options.reduction, {"canonical", "all_reduce"},
          "canonical: one rank's bits; all_reduce: naive_ddp, faster");
  set.add("--data", options.data, "folder of Fashion-MNIST's *-ubyte.gz");
  dai::add_distributed_options(set, options.distributed);
  // Microbatches divide by 12, so that 2, 3 and 4 ranks share them evenly; by
  // 8 and by 16 too where a node has that many devices.
  const auto preset = [&](const char* name, int steps, int microbatches,
                          int microbatch_size) {
    set.preset(name, [&training, steps, microbatches, microbatch_size] {
      training.steps = steps;
      training.microbatches = microbatches;
      training.microbatch_size = microbatch_size;
    });
  };
  preset("smoke", 20, 12, 64);
  preset("laptop", 300, 12, 256);
  preset("gpu24", 1000, 24, 1024);
  preset("gpu80", 1000, 24, 4096);
  preset("node8x2", 1000, 48, 1024);
}

void prove(dai::App& app, const std::vector<CollectiveRow>& collectives,
           const OneAgainstAll& both, const Promise& promise) {
  app.check("max|collective - by hand|", worst_error(collectives), 0);
  app.check("max|loss of all ranks - of one|", both.max_loss_difference,
            promise.tolerance);
  app.check("max|parameter of all ranks - of one|",
            both.max_parameter_difference, promise.tolerance);
  if (promise.tolerance == 0) {
    app.check("bits of the parameters off one rank's", both.bits_off_one_rank,
              0);
  }
  app.check("bits of the parameters off rank 0's", both.bits_off_rank0, 0);
  if (both.all_ranks_loss.size() >= 10) {  // fewer say nothing of learning
    app.check("last loss / first loss", both.last_to_first_loss(), 0.8);
  }
}

void run(dai::App& app, Options& options) {
  FirstTrainingOptions& training = options.training;
  training.seed = app.seed();
  FashionMnist train, test;
  dai::ProcessGroup group = dai::ProcessGroup::connect(
      app.launch(), options.distributed,
      [&] {
        microbatches_of_rank(training.microbatches, app.launch().rank,
                             app.launch().world_size);
        if (!app.is_rank0()) return;
        train = load_fashion_mnist(options.data, Split::kTrain);
        test = load_fashion_mnist(options.data, Split::kTest);
      },
      training.to_string() + " reduction=" + options.reduction);
  dai::set_deterministic_threads();
  if (app.tracing()) group.add_observer(dai::make_trace_observer(app.trace()));
  const Reduction reduction = options.reduction == "canonical"
                                  ? Reduction::kCanonical
                                  : Reduction::kAllReduce;
  app.print(fmt::format("ch01_first_distributed: {} on {}\n\n{}\n",
                        group.description(),
                        dai::describe_device(group.device()),
                        who_am_i_table(group, app.launch())));

  const auto collectives = check_collectives(group, /*elements=*/16384);
  app.print(collective_table(collectives) + "\n");
  broadcast_from_rank0(train, group);
  broadcast_from_rank0(test, group);
  const OneAgainstAll both =
      train_one_against_all(group, train, test, training, reduction,
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
  Options options;
  const dai::AppSpec spec{
      .name = "ch01_first_distributed",
      .shows = "N ranks train one model and compute what one rank computes",
      .example = "scripts/book run ch01_first_distributed -n 2",
      .declare = [&](dai::OptionSet& set) { declare(set, options); }};
  return dai::run_app(argc, argv, spec,
                      [&](dai::App& app) { run(app, options); });
}
