// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/one_against_all.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <numeric>

#include "ch01_intro/canonical_sum.h"
#include "ch01_intro/naive_ddp.h"
#include "ch01_intro/rank0_alone.h"
#include "ch01_intro/who_am_i.h"
#include "common/progress.h"
#include "common/report.h"
#include "common/torch/process_group.h"

namespace dai::intro {
namespace {

std::unique_ptr<GradientSync> make_sync(Reduction reduction,
                                        const FirstModel& model,
                                        std::int64_t microbatches,
                                        ProcessGroup* group) {
  if (reduction == Reduction::kCanonical) {
    return std::make_unique<CanonicalSync>(model.parameters(), microbatches,
                                           group);
  }
  return std::make_unique<NaiveDdp>(model.parameters(), microbatches, group);
}

// NaN compares false with everything and would pass as "no difference".
double max_difference(const at::Tensor& a, const at::Tensor& b) {
  const double worst = a.sub(b).abs().max().item<double>();
  return std::isnan(worst) ? std::numeric_limits<double>::infinity() : worst;
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

std::vector<float> to_vector(const at::Tensor& tensor) {
  const at::Tensor cpu = tensor.cpu().contiguous();
  return {cpu.data_ptr<float>(), cpu.data_ptr<float>() + cpu.numel()};
}

// What a training leaves behind.
struct Outcome {
  TrainingRun run;
  at::Tensor parameters;     // flat, on the group's device
  std::int64_t correct = 0;  // of the test samples that this rank judged
};

// Rank 0 trains, the others wait. Its losses and parameters reach all ranks.
Outcome train_alone(ProcessGroup& group, const FashionMnist& train,
                    const FashionMnist& test,
                    const FirstTrainingOptions& options, Reduction reduction) {
  FirstModel model(options.seed, group.device());
  Outcome outcome;  // with the shape of what rank 0 will send
  outcome.run.loss =
      at::empty({options.steps}, at::TensorOptions(group.device()));
  on_rank0_alone(group, [&](const Heartbeat& beat) {
    const auto sync =
        make_sync(reduction, model, options.microbatches, nullptr);
    Progress progress("rank 0 alone", options.steps);
    const auto after_step = [&](std::int64_t done, float loss) {
      progress.update(done, fmt::format("loss {:.3f}", loss));
      beat();
    };
    outcome.run = train_first_model(model, train, *sync, nullptr, options,
                                    {.after_step = after_step});
    outcome.correct = count_correct(model, test, 0, test.count);
  });
  outcome.parameters = model.flat_parameters();
  group.broadcast(outcome.run.loss);
  group.broadcast(outcome.parameters);
  return outcome;
}

// All ranks train on the same global batches; each judges its share of `test`.
Outcome train_together(ProcessGroup& group, const FashionMnist& train,
                       const FashionMnist& test,
                       const FirstTrainingOptions& options, Reduction reduction,
                       Trace* trace) {
  const int rank = group.rank(), ranks = group.size();
  FirstModel model(options.seed, group.device());
  const auto sync = make_sync(reduction, model, options.microbatches, &group);
  Progress progress(fmt::format("{} rank{}", ranks, ranks == 1 ? "" : "s"),
                    options.steps, rank == 0);
  const auto after_step = [&](std::int64_t done, float loss) {
    progress.update(done, fmt::format("loss {:.3f}", loss));
  };
  Outcome outcome;
  outcome.run = train_first_model(model, train, *sync, &group, options,
                                  {.trace = trace, .after_step = after_step});
  outcome.correct = count_correct(model, test, test.count * rank / ranks,
                                  test.count * (rank + 1) / ranks);
  outcome.parameters = model.flat_parameters();
  return outcome;
}

// Each rank compares what it holds; the worst of all ranks counts.
void compare(OneAgainstAll& both, const Outcome& one, const Outcome& all,
             ProcessGroup& group) {
  at::Tensor rank0_parameters = all.parameters.clone();
  group.broadcast(rank0_parameters);
  const auto worst = [&](double mine) { return max_over_ranks(group, mine); };
  both.max_loss_difference = worst(max_difference(all.run.loss, one.run.loss));
  both.max_parameter_difference =
      worst(max_difference(all.parameters, one.parameters));
  both.bits_off_one_rank =
      worst(differing_bits(all.parameters, one.parameters));
  both.bits_off_rank0 = worst(differing_bits(all.parameters, rank0_parameters));
}

}  // namespace

OneAgainstAll train_one_against_all(ProcessGroup& group,
                                    const FashionMnist& train,
                                    const FashionMnist& test,
                                    const FirstTrainingOptions& options,
                                    Reduction reduction, Trace* trace) {
  // Before anybody waits for anybody: do the microbatches fit the ranks?
  microbatches_of_rank(options.microbatches, group.rank(), group.size());
  const Outcome one = train_alone(group, train, test, options, reduction);
  const Outcome all =
      train_together(group, train, test, options, reduction, trace);

  OneAgainstAll both;
  both.ranks = group.size();
  both.one_rank_loss = to_vector(one.run.loss);
  both.all_ranks_loss = to_vector(all.run.loss);
  compare(both, one, all, group);
  const auto correct = gather_numbers(group, all.correct);
  both.all_ranks_accuracy =
      std::accumulate(correct.begin(), correct.end(), 0.0) / test.count;
  both.one_rank_accuracy =
      gather_numbers(group, one.correct).front() / test.count;
  both.scaling = break_down_scaling(one.run.step_ms, all.run.step_ms, group);
  both.samples_per_step = options.microbatches * options.microbatch_size;
  both.startup_ms = ms_since_process_start() -
                    (steady_us() - one.run.first_step_done_us) / 1e3;
  return both;
}

double OneAgainstAll::last_to_first_loss() const {
  return all_ranks_loss.back() / all_ranks_loss.front();
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
  text += fmt::format("test accuracy: {:.2f} % by 1 rank, {:.2f} % by {}\n\n",
                      100 * one_rank_accuracy, 100 * all_ranks_accuracy, ranks);
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
          {"one_rank_samples_per_s", 1e3 * samples_per_step / one_ms},
          {"all_ranks_samples_per_s", 1e3 * samples_per_step / all_ms},
          {"scaling_efficiency_percent", 100 * scaling.efficiency()},
          {"one_rank_test_accuracy_percent", 100 * one_rank_accuracy},
          {"all_ranks_test_accuracy_percent", 100 * all_ranks_accuracy}};
}

}  // namespace dai::intro
