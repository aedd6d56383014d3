// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/tuning/explore.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>

#include "ch01_intro/parameter_bits.h"
#include "ch03_ddp/compare/agreement.h"
#include "ch03_ddp/exchange/all_reduce_exchange.h"
#include "ch03_ddp/ladder/bucketed_ddp.h"
#include "ch03_ddp/ladder/overlapped_ddp.h"
#include "common/errors.h"
#include "common/report.h"
#include "common/torch/process_group.h"

namespace dai::ddp {
namespace {

constexpr double kMib = 1 << 20;

// Rank 0's numbers, on all ranks.
std::vector<double> told_by_rank0(ProcessGroup& group,
                                  const std::vector<double>& mine) {
  at::Tensor numbers = at::empty({std::ssize(mine)}, at::kDouble);
  std::copy(mine.begin(), mine.end(), numbers.data_ptr<double>());
  at::Tensor told = numbers.to(group.device());
  group.broadcast(told);
  numbers = told.cpu();
  const auto* const first = numbers.const_data_ptr<double>();
  return {first, first + numbers.numel()};
}

using Trainings = std::vector<std::unique_ptr<ComparedTraining>>;

std::unique_ptr<ComparedTraining> overlapped(ProcessGroup& group,
                                             const intro::TokenCorpus& corpus,
                                             const ComparedSizes& sizes,
                                             const BucketCaps& caps) {
  return std::make_unique<ComparedTraining>(
      "overlapped", group, corpus, sizes, [&](const auto& parameters) {
        return std::make_unique<OverlappedDdp>(
            parameters, sizes.microbatches,
            std::make_unique<AllReduceExchange>(&group), caps, &group);
      });
}

double end_ms(const StepMedians& medians) {
  return medians.backward_ms + medians.exposed_ms;
}

// When gradients come if nothing travels meanwhile, what a message costs if
// nothing computes, and what both do to each other.
BucketForecaster measure(ProcessGroup& group, const intro::TokenCorpus& corpus,
                         const ComparedSizes& sizes) {
  Trainings both;
  both.push_back(std::make_unique<ComparedTraining>(
      "apart", group, corpus, sizes, [&](const auto& parameters) {
        return std::make_unique<BucketedDdp>(
            parameters, sizes.microbatches,
            std::make_unique<AllReduceExchange>(&group), BucketCaps{});
      }));
  BucketForecaster forecaster{.parameters = both[0]->parameters()};
  BackwardTimetable& timetable = forecaster.timetable;
  for (const auto& parameter : forecaster.parameters) {
    timetable.bytes.push_back(
        static_cast<std::int64_t>(parameter.tensor.nbytes()));
  }
  const std::int64_t model_bytes =
      std::reduce(timetable.bytes.begin(), timetable.bytes.end());
  const BucketCaps eighths{.first_bytes = model_bytes / 8,
                           .bytes = model_bytes / 8};
  both.push_back(overlapped(group, corpus, sizes, eighths));
  train_side_by_side(both, group, sizes, "measure");
  for (std::size_t i = 0; i < forecaster.parameters.size(); ++i) {
    std::vector<double> ready;
    for (const StepTimeline& line : both[0]->timelines()) {
      ready.push_back((line.ready_us[i] - line.backward_begin_us) / 1e3);
    }
    timetable.ready_ms.push_back(intro::median(ready));
  }
  timetable.ready_ms = told_by_rank0(group, timetable.ready_ms);
  forecaster.fit = fit_all_reduce(group, model_bytes);
  const auto milliseconds = [&](double bytes) {
    return forecaster.milliseconds(bytes);
  };
  const auto told = told_by_rank0(
      group, {both[0]->medians().exposed_ms, end_ms(both[1]->medians())});
  // Apart, the whole of it is exposed.
  const double wire_ms =
      forecast_overlap(forecaster.plan(BucketCaps{}), timetable, milliseconds,
                       /*contention=*/0)
          .wire_ms;
  forecaster.handling_ms_per_mb =
      std::max(0.0, told[0] - wire_ms) / (model_bytes / 1e6);
  forecaster.contention = fit_contention(forecaster.plan(eighths), timetable,
                                         milliseconds, told[1]);
  return forecaster;
}

// One training for each of these sizes, all run.
Trainings run_sizes(ProcessGroup& group, const intro::TokenCorpus& corpus,
                    const ComparedSizes& sizes,
                    const std::vector<BucketCandidate>& candidates,
                    const char* progress) {
  Trainings all;
  for (const BucketCandidate& candidate : candidates) {
    all.push_back(overlapped(group, corpus, sizes, candidate.caps));
  }
  train_side_by_side(all, group, sizes, progress);
  return all;
}

std::vector<ExploredSize> describe(
    ProcessGroup& group, const std::vector<BucketCandidate>& candidates,
    const Trainings& trainings) {
  std::vector<ExploredSize> sizes;
  const at::Tensor first =
      intro::flat_parameters(trainings.front()->parameters());
  for (std::size_t i = 0; i < trainings.size(); ++i) {
    const ComparedTraining& training = *trainings[i];
    const at::Tensor mine = intro::flat_parameters(training.parameters());
    const StepTimeline& last = training.timelines().back();
    sizes.push_back(
        {.candidate = candidates[i],
         .medians = training.medians(),
         .collectives = std::ssize(last.wire),
         .bytes = last.wire_bytes(),
         .bits_off_rank0 = most_bits_off_rank0(group, mine),
         .max_parameter_difference =
             largest_of_ranks(group, intro::max_difference(mine, first)),
         .first_gradients_apart = largest_of_ranks(
             group, first_gradients_apart(training, *trainings.front()))});
  }
  return sizes;
}

std::string mib(std::int64_t bytes) {
  return fmt::format("{:g}", std::round(bytes / kMib * 1e3) / 1e3);
}

std::string caps_of(const BucketCaps& caps) {
  return fmt::format("{}, then {} MiB", mib(caps.first_bytes), mib(caps.bytes));
}

std::string contention_text(int ranks, double contention) {
  if (ranks == 1) return "-";
  return fmt::format("{:.2f}{}", contention,
                     contention > 0.99 * kMostContention ? " (or more)" : "");
}

Table table_of(const std::vector<ExploredSize>& sizes) {
  Table table({"first, then MiB", "buckets", "step ms", "end ms", "forecast",
               "exposed ms", "forecast", "hidden"});
  for (const ExploredSize& size : sizes) {
    const BucketCandidate& candidate = size.candidate;
    const OverlapForecast& forecast = candidate.forecast;
    table.add_row({fmt::format("{}, {}", mib(candidate.caps.first_bytes),
                               mib(candidate.caps.bytes)),
                   fmt::format("{}", candidate.buckets),
                   fmt::format("{:.2f}", size.medians.step_ms),
                   fmt::format("{:.2f}", end_ms(size.medians)),
                   fmt::format("{:.2f}", forecast.end_ms),
                   fmt::format("{:.2f}", size.medians.exposed_ms),
                   fmt::format("{:.2f}", forecast.exposed_ms),
                   fmt::format("{:.0f} %", 100 * size.medians.hidden)});
  }
  return table;
}

}  // namespace

void ExploreOptions::check(int ranks) const {
  training.check(ranks);
  for (const double size : sizes_mb) BucketCaps::of_mib(size, size);
}

Exploration explore_buckets(ProcessGroup& group,
                            const intro::TokenCorpus& corpus,
                            const ExploreOptions& options) {
  options.check(group.size());
  const ComparedSizes& sizes = options.training;
  Exploration found{.ranks = group.size(),
                    .forecaster = measure(group, corpus, sizes)};
  const BucketForecaster& forecaster = found.forecaster;
  for (const std::int64_t bytes : forecaster.timetable.bytes) {
    found.model_bytes += bytes;
  }
  const BucketCandidate standard = forecaster.at(BucketCaps{});

  std::vector<BucketCandidate> swept{standard};
  for (const double size : options.sizes_mb) {
    swept.push_back(forecaster.at(BucketCaps::of_mib(size, size)));
  }
  found.sizes =
      describe(group, swept, run_sizes(group, corpus, sizes, swept, "sweep"));

  std::vector<BucketCandidate> tried{standard};
  for (auto& candidate : forecaster.best(options.trials)) {
    tried.push_back(std::move(candidate));
  }
  const Trainings trials = run_sizes(group, corpus, sizes, tried, "trials");
  found.trials = describe(group, tried, trials);
  std::vector<std::vector<double>> trials_ms;
  for (std::size_t i = 1; i < trials.size(); ++i) {
    trials_ms.push_back(told_by_rank0(group, trials[i]->step_ms()));
  }
  const auto choice =
      choose_trial(told_by_rank0(group, trials[0]->step_ms()), trials_ms);
  found.tuned = choice ? tried[*choice + 1] : standard;
  found.stays_with_default = !choice;
  const Trainings again =
      run_sizes(group, corpus, sizes, {standard, found.tuned}, "confirm");
  const auto default_ms = told_by_rank0(group, again[0]->step_ms());
  const auto tuned_ms = told_by_rank0(group, again[1]->step_ms());
  found.confirm_default_ms = intro::median(default_ms);
  found.confirm_tuned_ms = intro::median(tuned_ms);
  found.confirmed = intro::paired_ratio(tuned_ms, default_ms);
  return found;
}

std::string Exploration::to_string() const {
  const BackwardTimetable& timetable = forecaster.timetable;
  std::string text = forecaster.fit.to_string();
  text += fmt::format(
      "\n{} gradients, {:.1f} MB; packing and averaging: {:.2f} ms a MB\n"
      "backward alone: {:.1f} ms, and {} ms more for each of wire\n"
      "end: backward and what is exposed; the first size is "
      "PyTorch's default\n\n",
      timetable.bytes.size(), model_bytes / 1e6, forecaster.handling_ms_per_mb,
      timetable.compute_end_ms(),
      contention_text(ranks, forecaster.contention));
  text += table_of(sizes).to_string();
  text += "\nthe tuner's trials, by their forecast:\n\n";
  text += table_of(trials).to_string();
  text += fmt::format(
      "\ntuned: {}{}\n{} = {:.3f} [{:.3f}, {:.3f}] over {} steps\n",
      caps_of(tuned.caps),
      stays_with_default ? ", the default: no trial was faster beyond noise"
                         : "",
      stays_with_default ? "noise of two trainings alike, default / default"
                         : "run once more, default / tuned",
      confirmed.ratio, confirmed.low, confirmed.high, confirmed.samples);
  return text;
}

std::vector<std::pair<std::string, double>> Exploration::metrics() const {
  const ExploredSize& standard = sizes.front();
  return {{"fit_unseen_error_percent",
           ranks > 1 ? 100 * forecaster.fit.unseen_error() : 0},
          {"contention", forecaster.contention},
          {"default_step_ms", standard.medians.step_ms},
          {"default_exposed_ms", standard.medians.exposed_ms},
          {"tuned_first_bytes", static_cast<double>(tuned.caps.first_bytes)},
          {"tuned_bytes", static_cast<double>(tuned.caps.bytes)},
          {"confirm_samples", static_cast<double>(confirmed.samples)},
          {"confirm_default_step_ms", confirm_default_ms},
          {"confirm_tuned_step_ms", confirm_tuned_ms},
          {"tuned_default_ratio", confirmed.ratio},
          {"tuned_default_ratio_low", confirmed.low},
          {"tuned_default_ratio_high", confirmed.high}};
}

nlohmann::ordered_json Exploration::sweep() const {
  nlohmann::ordered_json columns;
  for (const ExploredSize& size : sizes) {
    if (&size == &sizes.front()) continue;
    columns["mib"].push_back(size.candidate.caps.bytes / kMib);
    columns["end_ms"].push_back(end_ms(size.medians));
    columns["forecast_end_ms"].push_back(size.candidate.forecast.end_ms);
    columns["exposed_ms"].push_back(size.medians.exposed_ms);
    columns["forecast_exposed_ms"].push_back(
        size.candidate.forecast.exposed_ms);
  }
  return columns;
}

}  // namespace dai::ddp
