// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/baseline/baseline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ch01_intro/sync/naive_ddp.h"
#include "ch01_intro/trainer/language_task.h"
#include "common/errors.h"
#include "common/report.h"
#include "common/timer.h"

namespace dai::intro {
namespace {

// Wait and wire belong to several ranks; here they are zero.
constexpr StepPart kParts[] = {kData, kForward,   kBackward,
                               kAdd,  kOptimizer, kOther};

double validation_loss(const Decoder& decoder, const TokenCorpus& corpus,
                       const BaselineOptions& options, at::Device device) {
  const std::int64_t samples =
      std::min(options.samples, options.validation_windows);
  const std::int64_t microbatches = options.validation_windows / samples;
  LanguageTask task(decoder, corpus,
                    {.microbatches = microbatches,
                     .samples = samples,
                     .split = CorpusSplit::kValidation},
                    device);
  return evaluate(task, microbatches, nullptr, options.trainer.precision,
                  device);
}

}  // namespace

BaselineRun train_baseline(const Decoder& decoder, const TokenCorpus& corpus,
                           const BaselineOptions& options, at::Device device,
                           const AfterStep& after_step) {
  const std::int64_t total = options.trainer.schedule.total_steps;
  if (options.untimed_steps < 0 || options.untimed_steps >= total) {
    throw UsageError(
        fmt::format("{} steps, of which the first {} are not "
                    "timed: nothing is left to time",
                    total, options.untimed_steps));
  }
  TrainerOptions trainer_options = options.trainer;
  trainer_options.microbatches = options.microbatches;
  LanguageTask task(
      decoder, corpus,
      {.microbatches = options.microbatches, .samples = options.samples},
      device);
  NaiveDdp sync(decoder.parameters(), options.microbatches, nullptr);
  WholeParameters view(decoder.parameters());
  Trainer trainer(task, sync, view, nullptr, trainer_options, device);

  BaselineRun run;
  run.untimed_steps = options.untimed_steps;
  if (options.validation_windows > 0) {
    run.validation_before = validation_loss(decoder, corpus, options, device);
  }
  while (trainer.steps_done() < total) {
    const WallTimer wall;
    run.steps.push_back(trainer.step());
    run.wall_ms.push_back(wall.ms());
    if (after_step) after_step(run.steps.back());
  }
  if (options.validation_windows > 0) {
    run.validation_after = validation_loss(decoder, corpus, options, device);
  }
  return run;
}

std::int64_t BaselineRun::skipped_updates() const {
  return std::count_if(steps.begin(), steps.end(),
                       [](const StepResult& step) { return !step.updated; });
}

Summary BaselineRun::step_ms() const {
  return summarize({wall_ms.data() + untimed_steps,
                    wall_ms.size() - static_cast<std::size_t>(untimed_steps)});
}

Summary BaselineRun::part_ms(StepPart part) const {
  std::vector<double> ms;
  for (auto i = static_cast<std::size_t>(untimed_steps); i < steps.size();
       ++i) {
    ms.push_back(steps[i].ms[part]);
  }
  return summarize(ms);
}

double BaselineRun::tokens_per_s() const {
  return static_cast<double>(steps.back().tokens) / step_ms().median * 1e3;
}

std::string BaselineRun::to_string() const {
  return fmt::format(
      "{}\n{}the parts are medians, each of its own: they need not add up\n"
      "{:.0f} tokens/s at the median step; validation loss {:.4f} before, "
      "{:.4f} after; {} updates skipped\n",
      loss_table(*this), breakdown_table(*this), tokens_per_s(),
      validation_before, validation_after, skipped_updates());
}

std::vector<std::pair<std::string, double>> BaselineRun::metrics() const {
  std::vector<std::pair<std::string, double>> list = {
      {"tokens_per_s", tokens_per_s()},
      {"step_p50_ms", step_ms().median},
      {"step_p99_ms", step_ms().p99},
      {"step_mad_ms", step_ms().mad},
      {"first_loss_nats", first_loss()},
      {"last_loss_nats", last_loss()},
      {"validation_loss_before_nats", validation_before},
      {"validation_loss_after_nats", validation_after},
      {"skipped_updates", static_cast<double>(skipped_updates())}};
  for (const StepPart part : kParts) {
    std::string name = intro::to_string(part);
    std::replace(name.begin(), name.end(), ' ', '_');
    list.emplace_back(name + "_p50_ms", part_ms(part).median);
  }
  return list;
}

std::string breakdown_table(const BaselineRun& run) {
  const double step = run.step_ms().median;
  Table table({"part of a step", "median ms", "p90 ms", "share"});
  const auto row = [&](const char* name, const Summary& ms) {
    table.add_row({name, fmt::format("{:.3f}", ms.median),
                   fmt::format("{:.3f}", ms.p90),
                   fmt::format("{:.1f} %", 100 * ms.median / step)});
  };
  for (const StepPart part : kParts) row(to_string(part), run.part_ms(part));
  row("whole step", run.step_ms());
  return table.to_string();
}

std::string loss_table(const BaselineRun& run) {
  Table table({"step", "loss", "gradient norm", "learning rate"});
  const auto last = static_cast<std::int64_t>(run.steps.size()) - 1;
  constexpr std::int64_t kRows = 6;
  std::int64_t shown = -1;
  for (std::int64_t i = 0; i < kRows; ++i) {
    const std::int64_t at = last * i / (kRows - 1);
    if (at == shown) continue;
    shown = at;
    const StepResult& step = run.steps[static_cast<std::size_t>(at)];
    table.add_row({fmt::format("{}", at + 1), fmt::format("{:.4f}", step.loss),
                   fmt::format("{:.3f}", step.gradient_norm),
                   fmt::format("{:.2e}", step.learning_rate)});
  }
  return table.to_string();
}

}  // namespace dai::intro
