// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/ladder/climb.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "ch01_intro/decoder/decoder.h"
#include "ch01_intro/microbatches.h"
#include "ch01_intro/parameter_bits.h"
#include "ch01_intro/statistics/statistics.h"
#include "ch01_intro/trainer/language_task.h"
#include "ch01_intro/trainer/trainer.h"
#include "common/errors.h"
#include "common/progress.h"
#include "common/report.h"
#include "common/torch/process_group.h"

namespace dai::ddp {
namespace {

using intro::Decoder;
using intro::DecoderParts;
using intro::LanguageTask;
using intro::StepResult;
using intro::Trainer;

// A training of its own: model, sync, optimizer.
class Climber {
 public:
  Climber(const std::string& name, ProcessGroup& group,
          const intro::TokenCorpus& corpus, const LadderOptions& options)
      : parts_(options.decoder, {.seed = options.seed,
                                 .device = group.device(),
                                 .ops = options.ops}),
        decoder_(parts_),
        task_(decoder_, corpus,
              {.microbatches = options.microbatches,
               .samples = options.microbatch_size},
              group.device()),
        sync_(decoder_.parameters(), group,
              [&] {
                return make_sync(name, options.sync, decoder_.parameters(),
                                 options.microbatches, group);
              }),
        view_(decoder_.parameters()),
        trainer_(task_, sync_, view_, &group,
                 {.microbatches = options.microbatches,
                  .schedule = {.peak = options.learning_rate,
                               .warmup_steps = options.steps / 10,
                               .total_steps = options.steps}},
                 group.device()) {
    rung_.sync = name;
  }

  void step(bool counts) {
    const StepResult result = trainer_.step();
    rung_.losses.push_back(result.loss);
    if (!counts) return;
    const StepTimeline& line = sync_.timeline();
    step_ms_.push_back(intro::total_ms(result.ms));
    backward_ms_.push_back(line.backward_ms());
    wire_ms_.push_back(line.wire_ms());
    exposed_ms_.push_back(line.exposed_ms());
    hidden_.push_back(line.hidden());
    rung_.collectives = std::ssize(line.wire);
    rung_.bytes = line.wire_bytes();
    rung_.last_step = line;
  }
  Rung rung() {
    rung_.step_ms = intro::median(step_ms_);
    rung_.backward_ms = intro::median(backward_ms_);
    rung_.wire_ms = intro::median(wire_ms_);
    rung_.exposed_ms = intro::median(exposed_ms_);
    rung_.hidden = intro::median(hidden_);
    return rung_;
  }
  at::Tensor parameters() const {
    return intro::flat_parameters(decoder_.parameters());
  }
  std::int64_t tensors() const { return std::ssize(decoder_.parameters()); }

 private:
  DecoderParts parts_;
  const Decoder decoder_;
  LanguageTask task_;
  TimedSync sync_;
  intro::WholeParameters view_;
  Trainer trainer_;
  Rung rung_;
  std::vector<double> step_ms_, backward_ms_, wire_ms_, exposed_ms_, hidden_;
};

// Through the store: a broken collective must not be its own judge.
double largest(ProcessGroup& group, double mine) {
  double most = 0;
  for (const auto& text : group.gather_strings(fmt::format("{}", mine))) {
    most = std::max(most, std::strtod(text.c_str(), nullptr));
  }
  return most;
}

}  // namespace

void LadderOptions::check(int ranks) const {
  intro::microbatches_of_rank(microbatches, 0, ranks);
  if (steps <= untimed_steps) {
    throw UsageError(fmt::format(
        "{} steps: the first {} do not count, so no step is left to be timed",
        steps, untimed_steps));
  }
  for (const std::string& name : syncs) sync.check(name);
  if (sync.exchange != "all_reduce" && sync.exchange != "canonical") {
    throw UsageError(fmt::format(
        "exchange {} loses digits, so the rungs would not be equal: "
        "all_reduce or canonical",
        sync.exchange));
  }
}

Ladder climb(ProcessGroup& group, const intro::TokenCorpus& corpus,
             const LadderOptions& options) {
  options.check(group.size());
  std::vector<std::unique_ptr<Climber>> climbers;
  for (const std::string& name : options.syncs) {
    climbers.push_back(std::make_unique<Climber>(name, group, corpus, options));
  }
  Progress progress("climb", options.steps, group.rank() == 0);
  for (std::int64_t step = 0; step < options.steps; ++step) {
    for (const auto& climber : climbers) {
      climber->step(step >= options.untimed_steps);
    }
    progress.update(step + 1);
  }
  Ladder ladder;
  ladder.ranks = group.size();
  ladder.parameters = climbers.front()->tensors();
  const at::Tensor first = climbers.front()->parameters();
  for (const auto& climber : climbers) {
    Rung rung = climber->rung();
    const at::Tensor mine = climber->parameters();
    at::Tensor rank0 = mine.clone();
    group.broadcast(rank0);
    rung.max_parameter_difference =
        largest(group, intro::max_difference(mine, first));
    rung.bits_off_first_rung = static_cast<std::int64_t>(
        largest(group, intro::differing_bits(mine, first)));
    rung.bits_off_rank0 = static_cast<std::int64_t>(
        largest(group, intro::differing_bits(mine, rank0)));
    ladder.rungs.push_back(std::move(rung));
  }
  return ladder;
}

std::string Ladder::to_string() const {
  Table table({"sync", "collectives", "MB", "backward ms", "wire ms", "hidden",
               "exposed ms", "step ms", "of the first"});
  for (const Rung& rung : rungs) {
    table.add_row(
        {rung.sync, fmt::format("{}", rung.collectives),
         fmt::format("{:.1f}", rung.bytes / 1e6),
         fmt::format("{:.2f}", rung.backward_ms),
         fmt::format("{:.2f}", rung.wire_ms),
         fmt::format("{:.0f} %", 100 * rung.hidden),
         fmt::format("{:.2f}", rung.exposed_ms),
         fmt::format("{:.2f}", rung.step_ms),
         fmt::format("{:.2f}", rung.step_ms / rungs.front().step_ms)});
  }
  return table.to_string();
}

std::vector<std::pair<std::string, double>> Ladder::metrics() const {
  std::vector<std::pair<std::string, double>> all;
  for (const Rung& rung : rungs) {
    const auto add = [&](const char* what, double value) {
      all.emplace_back(fmt::format("{}_{}", rung.sync, what), value);
    };
    add("step_ms", rung.step_ms);
    add("backward_ms", rung.backward_ms);
    add("wire_ms", rung.wire_ms);
    add("exposed_ms", rung.exposed_ms);
    add("hidden_percent", 100 * rung.hidden);
    add("collectives", static_cast<double>(rung.collectives));
    add("wire_bytes", static_cast<double>(rung.bytes));
    add("last_loss_nats", rung.losses.back());
  }
  return all;
}

nlohmann::ordered_json Ladder::timelines() const {
  nlohmann::ordered_json all;
  for (const Rung& rung : rungs) {
    const StepTimeline& line = rung.last_step;
    const auto ms = [&](double us) {
      return std::round((us - line.backward_begin_us)) / 1e3;
    };
    auto wire = nlohmann::ordered_json::array();
    for (const WireSpan& span : line.wire) {
      wire.push_back({{"begin_ms", ms(span.begin_us)},
                      {"end_ms", ms(span.end_us)},
                      {"bytes", span.bytes}});
    }
    all[rung.sync] = {{"compute_end_ms", ms(line.compute_end_us)},
                      {"sync_end_ms", ms(line.sync_end_us)},
                      {"wire", wire}};
  }
  return all;
}

}  // namespace dai::ddp
