// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/compare/compared_training.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "ch01_intro/microbatches.h"
#include "ch01_intro/statistics/statistics.h"
#include "ch03_ddp/compare/tcp_meter.h"
#include "common/errors.h"
#include "common/progress.h"
#include "common/torch/process_group.h"
#include "common/trace.h"

namespace dai::ddp {

void ComparedSizes::check(int ranks) const {
  intro::microbatches_of_rank(microbatches, 0, ranks);
  if (steps <= untimed_steps) {
    throw UsageError(fmt::format(
        "{} steps: the first {} do not count, so no step is left to be timed",
        steps, untimed_steps));
  }
}

intro::TrainerOptions ComparedSizes::trainer() const {
  return {.microbatches = microbatches,
          .schedule = {.peak = learning_rate,
                       .warmup_steps = steps / 10,
                       .total_steps = steps}};
}

ComparedTraining::ComparedTraining(std::string name, ProcessGroup& group,
                                   const intro::TokenCorpus& corpus,
                                   const ComparedSizes& sizes,
                                   const MakeSync& make)
    : name_(std::move(name)),
      group_(group),
      corpus_(corpus),
      sizes_(sizes),
      parts_(sizes.decoder,
             {.seed = sizes.seed, .device = group.device(), .ops = sizes.ops}),
      decoder_(parts_),
      task_(decoder_, corpus,
            {.microbatches = sizes.microbatches,
             .samples = sizes.microbatch_size},
            group.device()),
      sync_(decoder_.parameters(), group,
            [&] { return make(decoder_.parameters()); }),
      view_(decoder_.parameters()),
      trainer_(task_, sync_, view_, &group, sizes.trainer(), group.device(),
               /*ledger=*/nullptr, sizes.trace) {}

void ComparedTraining::step(bool counts) {
  const bool first = losses_.empty();
  const TraceSpan span(trainer_.steps_done() < intro::Trainer::kTracedSteps
                           ? sizes_.trace
                           : nullptr,
                       name_, "training");
  const std::int64_t before = tcp_bytes_sent();
  const intro::StepResult result = trainer_.step();
  tcp_bytes_ = tcp_bytes_sent() - before;
  if (first) {
    std::vector<at::Tensor> flat;
    for (const auto& parameter : decoder_.parameters()) {
      flat.push_back(parameter.tensor.grad().reshape({-1}));
    }
    first_gradients_ = at::cat(flat).cpu();
    first_norm_ = result.gradient_norm;
  }
  losses_.push_back(result.loss);
  if (!counts) return;
  step_ms_.push_back(intro::total_ms(result.ms));
  timelines_.push_back(sync_.timeline());
}

StepMedians ComparedTraining::medians() const {
  const auto median_of = [&](auto value) {
    std::vector<double> values;
    for (const StepTimeline& line : timelines_) values.push_back(value(line));
    return intro::median(values);
  };
  using Line = StepTimeline;
  return {
      .step_ms = intro::median(step_ms_),
      .backward_ms = median_of([](const Line& l) { return l.backward_ms(); }),
      .wire_ms = median_of([](const Line& l) { return l.wire_ms(); }),
      .exposed_ms = median_of([](const Line& l) { return l.exposed_ms(); }),
      .hidden = median_of([](const Line& l) { return l.hidden(); })};
}

double ComparedTraining::validation_loss(std::int64_t windows) {
  const std::int64_t held_back = windows / sizes_.microbatch_size;
  intro::LanguageTask validation(decoder_, corpus_,
                                 {.microbatches = held_back,
                                  .samples = sizes_.microbatch_size,
                                  .split = intro::CorpusSplit::kValidation},
                                 group_.device());
  return intro::evaluate(validation, held_back, &group_,
                         intro::Precision::kFp32, group_.device());
}

double first_gradients_apart(const ComparedTraining& a,
                             const ComparedTraining& b) {
  const at::Tensor &mine = a.first_gradients(), &other = b.first_gradients();
  const double gradients = (mine - other).abs().max().item<double>() /
                           other.abs().max().item<double>();
  const double norms =
      std::abs(a.first_gradient_norm() / b.first_gradient_norm() - 1);
  return std::max(gradients, norms);
}

void train_side_by_side(
    const std::vector<std::unique_ptr<ComparedTraining>>& all,
    ProcessGroup& group, const ComparedSizes& sizes, const char* progress) {
  Progress shown(progress, sizes.steps, group.rank() == 0);
  for (std::int64_t step = 0; step < sizes.steps; ++step) {
    for (const auto& training : all) {
      training->step(step >= sizes.untimed_steps);
    }
    shown.update(step + 1);
  }
}

}  // namespace dai::ddp
