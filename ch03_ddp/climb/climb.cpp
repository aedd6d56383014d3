// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/climb/climb.h"

#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "ch01_intro/parameter_bits.h"
#include "ch03_ddp/compare/agreement.h"
#include "common/errors.h"
#include "common/report.h"
#include "common/torch/process_group.h"

namespace dai::ddp {
void LadderOptions::check(int ranks) const {
  training.check(ranks);
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
  std::vector<std::unique_ptr<ComparedTraining>> climbers;
  for (const std::string& name : options.syncs) {
    climbers.push_back(std::make_unique<ComparedTraining>(
        name, group, corpus, options.training, [&](const auto& parameters) {
          return make_sync(name, options.sync, parameters,
                           options.training.microbatches, group);
        }));
  }
  train_side_by_side(climbers, group, options.training, "climb");
  Ladder ladder;
  ladder.ranks = group.size();
  ladder.parameters = std::ssize(climbers.front()->parameters());
  const at::Tensor first =
      intro::flat_parameters(climbers.front()->parameters());
  for (const auto& climber : climbers) {
    const at::Tensor mine = intro::flat_parameters(climber->parameters());
    const StepTimeline& last = climber->timelines().back();
    ladder.rungs.push_back(
        {.sync = climber->name(),
         .losses = climber->losses(),
         .medians = climber->medians(),
         .collectives = std::ssize(last.wire),
         .bytes = last.wire_bytes(),
         .last_step = last,
         .max_parameter_difference =
             largest_of_ranks(group, intro::max_difference(mine, first)),
         .bits_off_first_rung = static_cast<std::int64_t>(largest_of_ranks(
             group, static_cast<double>(intro::differing_bits(mine, first)))),
         .first_gradients_apart = largest_of_ranks(
             group, first_gradients_apart(*climber, *climbers.front())),
         .bits_off_rank0 = most_bits_off_rank0(group, mine)});
  }
  return ladder;
}

std::string Ladder::to_string() const {
  Table table({"sync", "collectives", "MB handed", "backward ms", "wire ms",
               "hidden", "exposed ms", "step ms", "of the first"});
  for (const Rung& rung : rungs) {
    table.add_row({rung.sync, fmt::format("{}", rung.collectives),
                   fmt::format("{:.1f}", rung.bytes / 1e6),
                   fmt::format("{:.2f}", rung.medians.backward_ms),
                   fmt::format("{:.2f}", rung.medians.wire_ms),
                   fmt::format("{:.0f} %", 100 * rung.medians.hidden),
                   fmt::format("{:.2f}", rung.medians.exposed_ms),
                   fmt::format("{:.2f}", rung.medians.step_ms),
                   fmt::format("{:.2f}", rung.medians.step_ms /
                                             rungs.front().medians.step_ms)});
  }
  return table.to_string();
}

std::vector<std::pair<std::string, double>> Ladder::metrics() const {
  std::vector<std::pair<std::string, double>> all;
  for (const Rung& rung : rungs) {
    const auto add = [&](const char* what, double value) {
      all.emplace_back(fmt::format("{}_{}", rung.sync, what), value);
    };
    add("step_ms", rung.medians.step_ms);
    add("backward_ms", rung.medians.backward_ms);
    add("wire_ms", rung.medians.wire_ms);
    add("exposed_ms", rung.medians.exposed_ms);
    add("hidden_percent", 100 * rung.medians.hidden);
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
