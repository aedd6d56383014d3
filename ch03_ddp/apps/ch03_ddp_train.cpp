// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/train/train_run.h"

#include <fmt/format.h>

#include <iostream>
#include <optional>

#include "ch01_intro/baseline/paced_steps.h"
#include "ch01_intro/first_run/same_tokens.h"
#include "ch03_ddp/train/paced_ddp.h"
#include "ch03_ddp/train/train_options.h"
#include "common/allocator.h"
#include "common/app.h"
#include "common/errors.h"
#include "common/progress.h"
#include "common/torch/device.h"
#include "common/torch/distributed_trace.h"
#include "common/torch/process_group.h"

using namespace dai::ddp;
using dai::intro::FashionMnist;

void prove(dai::App& app, const TrainRun& run, bool text) {
  app.check("bits of the weights off rank 0's",
            static_cast<double>(run.bits_off_rank0), 0);
  app.check("updates skipped, but for overflows of float16",
            static_cast<double>(run.skipped_updates - run.scaler_skips), 0);
  if (run.losses.size() >= 8) {  // fewer say nothing of learning
    app.check("last loss / first", run.losses.back() / run.losses.front(),
              0.95);
  }
  if (!run.checkpoints.stopped_by.empty()) {
    app.check("steps that no checkpoint has",
              static_cast<double>(
                  run.checkpoints.steps -
                  std::max<std::int64_t>(0, run.checkpoints.last_step)),
              0);
    return;
  }
  if (app.smoke()) return;  // too short for what follows
  if (text) {
    app.check("validation loss / bigram table's",
              run.validation_loss / run.bigram_loss, 0.999);
  } else {
    app.check("test pictures named wrongly", 1 - run.test_accuracy, 0.09);
  }
}

// What the bench of the chapter talks to; its proof is that it has trained.
void run_paced(dai::App& app, dai::ProcessGroup& group,
               const dai::intro::TokenCorpus& corpus,
               const TrainOptions& options, const TrainAppOptions& given) {
  if (!given.windows_out.empty() && app.is_rank0()) {
    dai::intro::BaselineOptions windows;
    windows.samples = options.microbatch_size;
    windows.microbatches = options.trainer.microbatches;
    windows.trainer.schedule = options.trainer.schedule;
    dai::intro::write_windows(corpus, windows, given.windows_out);
  }
  const std::int64_t steps =
      serve_paced_ddp(group, corpus, options, std::cin, std::cout);
  app.check("steps missing of the first", steps > 0 ? 0 : 1, 0);
}

// A training that the doctor watches; null: nobody does.
template <typename Train>
auto watched(Watch* watch, Train train) {
  try {
    return train();
  } catch (const std::exception& error) {
    if (watch) watch->tell_failure(error.what());
    throw;
  }
}

void run(dai::App& app, const TrainAppOptions& given) {
  TrainOptions options;
  std::optional<dai::intro::TokenCorpus> corpus;
  FashionMnist pictures, test;
  dai::ProcessGroup group = dai::ProcessGroup::connect(
      app.launch(), given.distributed,
      [&] {
        options = given.options(app.seed());
        options.check(app.launch().world_size);
        given.check_files(app.is_rank0());
        if (given.is_text()) {
          corpus = dai::intro::load_text_corpus(given.corpus(app.seed()),
                                                app.cache_dir());
        } else {
          using dai::intro::Split;
          pictures = load_fashion_mnist(given.images, Split::kTrain);
          test = load_fashion_mnist(given.images, Split::kTest);
        }
      },
      given.to_string(app.seed()));
  if (corpus) dai::intro::require_same_tokens(group, corpus->tokens());
  dai::set_deterministic_threads();
  dai::keep_freed_memory();
  if (app.tracing()) group.add_observer(dai::make_trace_observer(app.trace()));
  app.print(fmt::format("ch03_ddp_train: {} on {}\n{}\n\n", group.description(),
                        dai::describe_device(group.device()),
                        given.to_string(app.seed())));
  std::optional<Watch> watch;
  if (given.watch)
    options.watch = &watch.emplace(group, app.launch(), given.watching);
  if (given.paced) return run_paced(app, group, *corpus, options, given);
  dai::Progress progress("train", options.trainer.schedule.total_steps,
                         app.is_rank0());
  const auto show = [&](const dai::intro::StepResult& step, double exposed_ms) {
    progress.update(step.step + 1, fmt::format("loss {:.3f}, exposed {:.1f} ms",
                                               step.loss, exposed_ms));
  };
  dai::Trace* const trace = app.tracing() ? &app.trace() : nullptr;
  const TrainRun result = watched(options.watch, [&] {
    return corpus ? train_decoder(group, *corpus, options, show, trace)
                  : train_fashion(group, pictures, test, options, show, trace);
  });
  app.print(result.to_string() + "\n");
  prove(app, result, given.is_text());
  for (const auto& [name, value] : result.metrics()) app.metric(name, value);
  app.attach("curves", {{given.task, result.losses}});
  if (trace) app.set_merged_trace(dai::merged_trace(group, *trace));
}

int main(int argc, char** argv) {
  TrainAppOptions options;
  const dai::AppSpec spec{
      .name = "ch03_ddp_train",
      .shows = "data-parallel training on real text or pictures",
      .example = "scripts/book run ch03_ddp_train -n 2 -- --task images",
      .declare = [&](dai::OptionSet& set) { options.declare(set); }};
  return dai::run_app(argc, argv, spec,
                      [&](dai::App& app) { run(app, options); });
}
