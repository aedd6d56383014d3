// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/first_run/one_against_all.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <memory>

#include "ch01_intro/decoder/decoder.h"
#include "ch01_intro/first_run/rank0_alone.h"
#include "ch01_intro/first_run/who_am_i.h"
#include "ch01_intro/parameter_bits.h"
#include "ch01_intro/sync/canonical_sum.h"
#include "ch01_intro/sync/naive_ddp.h"
#include "ch01_intro/trainer/language_task.h"
#include "ch01_intro/trainer/trainer.h"
#include "common/progress.h"
#include "common/report.h"
#include "common/timer.h"
#include "common/torch/process_group.h"

namespace dai::intro {
namespace {

std::unique_ptr<GradientSync> make_sync(Reduction reduction,
                                        const Decoder& decoder,
                                        std::int64_t microbatches,
                                        ProcessGroup* group) {
  if (reduction == Reduction::kCanonical) {
    return std::make_unique<CanonicalSync>(decoder.parameters(), microbatches,
                                           group);
  }
  return std::make_unique<NaiveDdp>(decoder.parameters(), microbatches, group);
}

TrainerOptions trainer_options(const FirstRunOptions& options) {
  return {.microbatches = options.microbatches,
          .schedule = {.peak = options.learning_rate,
                       .warmup_steps = options.steps / 10,
                       .total_steps = options.steps}};
}

LanguageTaskOptions task_options(const FirstRunOptions& options,
                                 CorpusSplit split) {
  return {.microbatches = options.microbatches,
          .samples = options.microbatch_size,
          .split = split};
}

// Through the store: a broken collective must not be its own judge.
std::vector<double> gather_numbers(ProcessGroup& group, double mine) {
  std::vector<double> all;
  for (const auto& text : group.gather_strings(fmt::format("{}", mine))) {
    all.push_back(std::strtod(text.c_str(), nullptr));
  }
  return all;
}

double max_over_ranks(ProcessGroup& group, double mine) {
  const auto all = gather_numbers(group, mine);
  return *std::max_element(all.begin(), all.end());
}

// What a training leaves behind, on its device.
struct Outcome {
  at::Tensor losses;      // float64 [steps + 1], the last on held-back text
  at::Tensor parameters;  // float32, flat
  StepTimes step_ms{};    // this rank's mean, without the first step
  double first_step_done_us = 0;  // on steady_us()'s clock
  std::int64_t skipped_updates = 0;
};

using AfterStep = std::function<void(const StepResult&)>;

// From the seed to a trained decoder. A null group: this rank alone.
Outcome train(const TokenCorpus& corpus, const FirstRunOptions& options,
              Reduction reduction, ProcessGroup* group, at::Device device,
              Trace* trace, const AfterStep& after_step) {
  DecoderParts parts(
      options.decoder,
      {.seed = options.seed, .device = device, .ops = options.ops});
  const Decoder decoder(parts);
  LanguageTask task(decoder, corpus, task_options(options, CorpusSplit::kTrain),
                    device);
  const auto sync = make_sync(reduction, decoder, options.microbatches, group);
  WholeParameters view(decoder.parameters());
  Trainer trainer(task, *sync, view, group, trainer_options(options), device,
                  /*ledger=*/nullptr, trace);

  Outcome outcome;
  at::Tensor losses = at::empty({options.steps + 1}, at::kDouble);
  double* const loss = losses.data_ptr<double>();
  while (trainer.steps_done() < options.steps) {
    const StepResult result = trainer.step();
    loss[result.step] = result.loss;
    if (result.step == 0) outcome.first_step_done_us = steady_us();
    // The first step pays for allocations and for code that is paged in.
    if (result.step > 0 || options.steps == 1) {
      const double measured = std::max<std::int64_t>(options.steps - 1, 1);
      for (int part = 0; part < kStepParts; ++part) {
        outcome.step_ms[part] += result.ms[part] / measured;
      }
    }
    after_step(result);
  }
  LanguageTask held_back(
      decoder, corpus, task_options(options, CorpusSplit::kValidation), device);
  loss[options.steps] = evaluate(held_back, options.microbatches, group,
                                 Precision::kFp32, device);
  outcome.skipped_updates = trainer.skipped_updates();
  outcome.losses = losses.to(device);
  outcome.parameters = flat_parameters(decoder.parameters());
  return outcome;
}

std::string note(const StepResult& result) {
  return fmt::format("loss {:.3f}", result.loss);
}

// Rank 0 trains, the others wait. Its losses and parameters reach all ranks.
Outcome train_alone(ProcessGroup& group, const TokenCorpus& corpus,
                    const FirstRunOptions& options, Reduction reduction) {
  const at::TensorOptions on_device(group.device());
  Outcome outcome;  // with the shape of what rank 0 will send
  outcome.losses = at::empty({options.steps + 1}, on_device.dtype(at::kDouble));
  outcome.parameters =
      at::empty({options.decoder.parameter_count()}, on_device);
  on_rank0_alone(group, [&](const Heartbeat& beat) {
    Progress progress("rank 0 alone", options.steps);
    outcome = train(corpus, options, reduction, nullptr, group.device(),
                    nullptr, [&](const StepResult& result) {
                      progress.update(result.step + 1, note(result));
                      beat();
                    });
  });
  group.broadcast(outcome.losses);
  group.broadcast(outcome.parameters);
  return outcome;
}

// All ranks train on the same global batches.
Outcome train_together(ProcessGroup& group, const TokenCorpus& corpus,
                       const FirstRunOptions& options, Reduction reduction,
                       Trace* trace) {
  Progress progress(
      fmt::format("{} rank{}", group.size(), group.size() == 1 ? "" : "s"),
      options.steps, group.rank() == 0);
  return train(corpus, options, reduction, &group, group.device(), trace,
               [&](const StepResult& result) {
                 progress.update(result.step + 1, note(result));
               });
}

// Each rank compares what it holds; the worst of all ranks counts.
void compare(OneAgainstAll& both, const Outcome& one, const Outcome& all,
             ProcessGroup& group) {
  at::Tensor rank0_parameters = all.parameters.clone();
  group.broadcast(rank0_parameters);
  const auto worst = [&](double mine) { return max_over_ranks(group, mine); };
  const std::int64_t steps = one.losses.size(0) - 1;
  both.max_loss_difference = worst(max_difference(
      all.losses.narrow(0, 0, steps), one.losses.narrow(0, 0, steps)));
  both.validation_loss_difference =
      worst(max_difference(all.losses[steps], one.losses[steps]));
  both.max_parameter_difference =
      worst(max_difference(all.parameters, one.parameters));
  both.bits_off_one_rank =
      worst(differing_bits(all.parameters, one.parameters));
  both.bits_off_rank0 = worst(differing_bits(all.parameters, rank0_parameters));
  both.skipped_updates = worst(one.skipped_updates + all.skipped_updates);
}

// Splits off the validation loss.
std::vector<double> curve_of(const Outcome& outcome, double& validation_loss) {
  const at::Tensor cpu = outcome.losses.cpu();
  const double* const loss = cpu.const_data_ptr<double>();
  validation_loss = loss[cpu.numel() - 1];
  return {loss, loss + cpu.numel() - 1};
}

}  // namespace

void FirstRunOptions::check(const TokenCorpus& corpus, int ranks) const {
  microbatches_of_rank(microbatches, 0, ranks);
  trainer_options(*this).check();
  // A decoder of shapes without bytes: is the corpus made for it?
  DecoderParts parts(decoder, {.device = at::Device(at::kMeta)});
  const Decoder hollow(parts);
  LanguageTask(hollow, corpus, task_options(*this, CorpusSplit::kTrain),
               at::Device(at::kCPU));
}

OneAgainstAll train_one_against_all(ProcessGroup& group,
                                    const TokenCorpus& corpus,
                                    const FirstRunOptions& options,
                                    Reduction reduction, Trace* trace) {
  options.check(corpus, group.size());
  const Outcome one = train_alone(group, corpus, options, reduction);
  const Outcome all = train_together(group, corpus, options, reduction, trace);

  OneAgainstAll both;
  both.ranks = group.size();
  both.vocab_size = options.decoder.vocab_size;
  both.one_rank_loss = curve_of(one, both.one_rank_validation_loss);
  both.all_ranks_loss = curve_of(all, both.all_ranks_validation_loss);
  compare(both, one, all, group);
  both.scaling = break_down_scaling(one.step_ms, all.step_ms, group);
  both.tokens_per_step =
      options.microbatches * options.microbatch_size * corpus.window();
  both.startup_ms = gather_numbers(
      group, ms_since_process_start() -
                 (steady_us() - one.first_step_done_us) / 1e3)[0];
  return both;
}

double OneAgainstAll::first_to_blind_loss() const {
  return all_ranks_loss.front() / std::log(static_cast<double>(vocab_size));
}

double OneAgainstAll::last_to_blind_loss() const {
  return all_ranks_loss.back() / std::log(static_cast<double>(vocab_size));
}

Promise what_holds(Reduction reduction, at::Device device) {
  if (reduction == Reduction::kAllReduce) {
    return {1e-2,
            "all_reduce adds in an order that changes with the number of "
            "ranks, so the runs agree\nup to rounding, which every step "
            "amplifies: tolerance 0.01 (0 with --reduction canonical)."};
  }
  if (device.is_cuda()) {
    return {1e-2,
            "On CUDA the same bits are promised from run to run on the same "
            "GPUs, not across\nGPU models: their libraries choose other "
            "kernels. Tolerance 0.01; equal GPUs give 0."};
  }
  return {0,
          "Canonical additions: the same bits at every number of ranks, so "
          "the tolerance is 0."};
}

std::string OneAgainstAll::to_string() const {
  constexpr std::size_t kRows = 6;
  Table table({"step", "1 rank",
               fmt::format("{} rank{}", ranks, ranks == 1 ? "" : "s"),
               "difference"});
  const std::size_t last = one_rank_loss.size() - 1;
  std::size_t shown = last + 1;  // no step so far
  for (std::size_t row = 0; row < kRows; ++row) {
    const std::size_t step = last * row / (kRows - 1);
    if (step == shown) continue;  // fewer steps than rows
    shown = step;
    const double one = one_rank_loss[step], all = all_ranks_loss[step];
    table.add_row({fmt::format("{}", step + 1), fmt::format("{:.6f}", one),
                   fmt::format("{:.6f}", all), fmt::format("{:g}", all - one)});
  }
  std::string text = "loss\n" + table.to_string();
  text += fmt::format(
      "on text held back: {:.6f} by 1 rank, {:.6f} by {}; guessing among {} "
      "tokens is {:.6f}\n\n",
      one_rank_validation_loss, all_ranks_validation_loss, ranks, vocab_size,
      std::log(static_cast<double>(vocab_size)));
  text += scaling.to_table();
  if (ranks == 1) {
    return text + "one rank has nothing to scale against: run it with more\n";
  }
  return text +
         fmt::format(
             "scaling efficiency: {:.0f} % = {:.2f} ms / ({} x {:.2f} ms)\n",
             100 * scaling.efficiency(), total_ms(scaling.one_rank), ranks,
             total_ms(scaling.all_ranks));
}

std::vector<std::pair<std::string, double>> OneAgainstAll::metrics() const {
  const double one_ms = total_ms(scaling.one_rank);
  const double all_ms = total_ms(scaling.all_ranks);
  return {{"startup_ms", startup_ms},
          {"one_rank_step_ms", one_ms},
          {"all_ranks_step_ms", all_ms},
          {"one_rank_tokens_per_s", 1e3 * tokens_per_step / one_ms},
          {"all_ranks_tokens_per_s", 1e3 * tokens_per_step / all_ms},
          {"scaling_efficiency_percent", 100 * scaling.efficiency()},
          {"one_rank_validation_loss_nats", one_rank_validation_loss},
          {"all_ranks_validation_loss_nats", all_ranks_validation_loss}};
}

}  // namespace dai::intro
