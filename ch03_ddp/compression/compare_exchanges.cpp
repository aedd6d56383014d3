// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/compression/compare_exchanges.h"

#include <fmt/format.h>

#include <cstdlib>
#include <memory>
#include <utility>

#include "ch01_intro/parameter_bits.h"
#include "ch03_ddp/compare/agreement.h"
#include "ch03_ddp/compare/compared_options.h"
#include "ch03_ddp/exchange/canonical_exchange.h"
#include "ch03_ddp/ladder/overlapped_ddp.h"
#include "common/errors.h"
#include "common/report.h"
#include "common/torch/process_group.h"

namespace dai::ddp {
namespace {

double mean_of_ranks(ProcessGroup& group, std::int64_t mine) {
  double sum = 0;
  for (const auto& text : group.gather_strings(fmt::format("{}", mine))) {
    sum += std::strtod(text.c_str(), nullptr);
  }
  return sum / group.size();
}

BucketShapes shapes_of(const GradientBuckets& buckets) {
  BucketShapes shapes;
  for (std::size_t bucket = 0; bucket < buckets.size(); ++bucket) {
    shapes.emplace_back();
    for (const std::size_t parameter : buckets.parameters_of(bucket)) {
      shapes.back().push_back(buckets.view(parameter).sizes().vec());
    }
  }
  return shapes;
}

std::string mb(double bytes) {
  return fmt::format("{:.3f}", bytes / 1e6);
}

}  // namespace

void CompareExchangesOptions::check(int ranks) const {
  training.check(ranks);
  if (exchanges.empty()) throw UsageError("no exchange to compare");
  for (const std::string& name : exchanges) {
    SyncOptions one = sync;
    one.exchange = name;
    one.check("overlapped");
    if (name == "powersgd" && sync.powersgd.start_iter >= training.steps) {
      throw UsageError(
          fmt::format("PowerSGD from step {} on is never seen in {} steps",
                      sync.powersgd.start_iter, training.steps));
    }
  }
  check_validation_windows(validation_windows, training.microbatch_size, ranks);
}

ExchangeTable compare_exchanges(ProcessGroup& group,
                                const intro::TokenCorpus& corpus,
                                const CompareExchangesOptions& options) {
  options.check(group.size());
  require_held_back(corpus, options.validation_windows);
  const std::int64_t microbatches = options.training.microbatches;
  std::vector<std::unique_ptr<ComparedTraining>> trainings;
  std::vector<const OverlappedDdp*> syncs;
  const CanonicalExchange* canonical = nullptr;
  std::vector<SyncOptions> sync_options;
  for (const std::string& name : options.exchanges) {
    sync_options.push_back(options.sync);
    SyncOptions& one = sync_options.back();
    one.exchange = name;
    trainings.push_back(std::make_unique<ComparedTraining>(
        name, group, corpus, options.training, [&](const auto& parameters) {
          auto exchange =
              make_exchange(one, parameters.size(), microbatches, group);
          if (const auto* found =
                  dynamic_cast<const CanonicalExchange*>(exchange.get())) {
            canonical = found;
          }
          auto sync = std::make_unique<OverlappedDdp>(
              parameters, microbatches, std::move(exchange), one.caps, &group);
          syncs.push_back(sync.get());
          return sync;
        }));
  }
  train_side_by_side(trainings, group, options.training, "train");
  ExchangeTable table{.ranks = group.size()};
  for (std::size_t i = 0; i < trainings.size(); ++i) {
    ComparedTraining& training = *trainings[i];
    table.rows.push_back(
        {.name = training.name(),
         .losses = training.losses(),
         .medians = training.medians(),
         .formula = wire_cost(sync_options[i], shapes_of(syncs[i]->buckets()),
                              microbatches, group.size()),
         .handed_bytes =
             mean_of_ranks(group, training.timelines().back().wire_bytes()),
         .tcp_bytes = mean_of_ranks(group, training.tcp_bytes()),
         .validation_loss =
             training.validation_loss(options.validation_windows),
         .bits_off_rank0 = most_bits_off_rank0(
             group, intro::flat_parameters(training.parameters()))});
  }
  if (canonical != nullptr) table.canonical_held = canonical->most_held();
  table.all_reduce_bytes = wire_cost({}, shapes_of(syncs.front()->buckets()),
                                     microbatches, group.size())
                               .sent;
  return table;
}

std::string ExchangeTable::to_string() const {
  Table table({"exchange", "MB handed", "MB on TCP", "formula", "of all_reduce",
               "step ms", "exposed ms", "loss held back", "gap"});
  for (const ExchangeRow& row : rows) {
    table.add_row(
        {row.name, mb(row.handed_bytes), mb(row.tcp_bytes),
         mb(row.formula.sent),
         fmt::format("{:.3f}",
                     ranks > 1 ? row.formula.sent / all_reduce_bytes : 0),
         fmt::format("{:.2f}", row.medians.step_ms),
         fmt::format("{:.2f}", row.medians.exposed_ms),
         fmt::format("{:.4f}", row.validation_loss),
         fmt::format("{:+.4f}", gap(row))});
  }
  std::string text = table.to_string();
  if (canonical_held > 0) {
    text += fmt::format(
        "canonical holds up to {} times the gradients until their siblings "
        "come\n",
        canonical_held);
  }
  return text;
}

std::vector<std::pair<std::string, double>> ExchangeTable::metrics() const {
  std::vector<std::pair<std::string, double>> all{
      {"canonical_held_gradients", static_cast<double>(canonical_held)}};
  for (const ExchangeRow& row : rows) {
    const auto add = [&](const char* what, double value) {
      all.emplace_back(fmt::format("{}_{}", row.name, what), value);
    };
    add("step_ms", row.medians.step_ms);
    add("exposed_ms", row.medians.exposed_ms);
    add("handed_bytes", row.handed_bytes);
    add("tcp_bytes", row.tcp_bytes);
    add("formula_bytes", row.formula.sent);
    add("validation_loss_nats", row.validation_loss);
    add("loss_gap_nats", gap(row));
  }
  return all;
}

nlohmann::ordered_json ExchangeTable::curves() const {
  nlohmann::ordered_json curves;
  for (const ExchangeRow& row : rows) curves[row.name] = row.losses;
  return curves;
}

}  // namespace dai::ddp
