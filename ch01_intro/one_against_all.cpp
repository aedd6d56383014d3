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

}  // namespace

OneAgainstAll train_one_against_all(ProcessGroup& group,
                                    const FashionMnist& train,
                                    const FashionMnist& test,
                                    const FirstTrainingOptions& options,
                                    Reduction reduction, Trace* trace) {
  const int rank = group.rank(), ranks = group.size();
  // Before anybody waits for anybody: do the microbatches fit the ranks?
  microbatches_of_rank(options.microbatches, rank, ranks);
  OneAgainstAll both;
  both.ranks = ranks;
  // The shape of what rank 0 will broadcast, also on ranks that train later.
  FirstModel model(options.seed, group.device());
  TrainingRun one{
      .loss = at::empty({options.steps}, at::TensorOptions(group.device()))};
  at::Tensor one_parameters = model.flat_parameters();
  std::int64_t one_correct = 0;

  on_rank0_alone(group, [&](const Heartbeat& beat) {
    FirstModel alone(options.seed, group.device());
    const auto sync =
        make_sync(reduction, alone, options.microbatches, nullptr);
    Progress progress("rank 0 alone", options.steps);
    one = train_first_model(alone, train, *sync, nullptr, options,
                            {.after_step = [&](std::int64_t done, float loss) {
                              progress.update(done,
                                              fmt::format("loss {:.3f}", loss));
                              beat();
                            }});
    one_parameters = alone.flat_parameters();
    one_correct = count_correct(alone, test, 0, test.count);
  });
  group.broadcast(one.loss);
  group.broadcast(one_parameters);

  const auto sync = make_sync(reduction, model, options.microbatches, &group);
  Progress progress(fmt::format("{} ranks", ranks), options.steps, rank == 0);
  const TrainingRun all = train_first_model(
      model, train, *sync, &group, options,
      {.trace = trace, .after_step = [&](std::int64_t done, float loss) {
         progress.update(done, fmt::format("loss {:.3f}", loss));
       }});
  const std::int64_t correct = count_correct(
      model, test, test.count * rank / ranks, test.count * (rank + 1) / ranks);

  const at::Tensor parameters = model.flat_parameters();
  at::Tensor rank0_parameters = parameters.clone();
  group.broadcast(rank0_parameters);

  both.one_rank_loss = to_vector(one.loss);
  both.all_ranks_loss = to_vector(all.loss);
  both.max_loss_difference =
      max_over_ranks(group, max_difference(all.loss, one.loss));
  both.max_parameter_difference =
      max_over_ranks(group, max_difference(parameters, one_parameters));
  both.bits_off_one_rank =
      max_over_ranks(group, differing_bits(parameters, one_parameters));
  both.bits_off_rank0 =
      max_over_ranks(group, differing_bits(parameters, rank0_parameters));
  const auto shares = gather_numbers(group, correct);
  both.all_ranks_accuracy =
      std::accumulate(shares.begin(), shares.end(), 0.0) / test.count;
  both.one_rank_accuracy =
      gather_numbers(group, one_correct).front() / test.count;
  both.scaling = break_down_scaling(one.step_ms, all.step_ms, group);
  both.samples_per_step = options.microbatches * options.microbatch_size;
  both.startup_ms =
      ms_since_process_start() - (steady_us() - one.first_step_done_us) / 1e3;
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
  text += fmt::format(
      "scaling efficiency: {:.0f} % = {:.2f} ms / ({} x {:.2f} ms)\n",
      100 * scaling.efficiency(), total_ms(scaling.one_rank), ranks,
      total_ms(scaling.all_ranks));
  if (ranks == 1) {
    text += "one rank has only itself to compare with: run it with more\n";
  }
  return text;
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
