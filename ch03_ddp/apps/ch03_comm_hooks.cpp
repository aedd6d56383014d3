// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "ch03_ddp/compression/hooks_options.h"
#include "common/torch/distributed_trace.h"

using namespace dai::ddp;

// Of the loss held back, in nats a token, that an exchange may cost.
double allowed_gap(const std::string& exchange, bool smoke) {
  if (exchange == "canonical") return 0.02;  // another order of additions
  if (smoke) return 0.2;  // Adam's first steps make much of little
  if (exchange == "int8" || exchange == "powersgd") return 0.25;
  return 0.05;
}

void prove(dai::App& app, const ExchangeTable& table, bool gloo) {
  // The worst of all rows, by its name where it is not perfect.
  const auto check_all = [&](const std::string& what, double tolerance,
                             auto value) {
    const ExchangeRow* worst = &table.rows.front();
    for (const ExchangeRow& row : table.rows) {
      if (value(row) > value(*worst)) worst = &row;
    }
    app.check(what + (value(*worst) > 0 ? worst->name : "any exchange"),
              value(*worst), tolerance);
  };
  check_all("bits of the parameters off rank 0's, ", 0,
            [](const auto& row) { return double(row.bits_off_rank0); });
  check_all("bytes handed to collectives off the formula, ", 0,
            [](const auto& row) {
              return std::abs(row.handed_bytes - row.formula.handed);
            });
  // Messages have headers, and the loss travels, too.
  if (gloo && table.ranks > 1) {
    check_all("bytes on TCP off the formula, of an all_reduce's, ", 0.01,
              [&](const auto& row) {
                return std::abs(row.tcp_bytes - row.formula.sent) /
                       table.all_reduce_bytes;
              });
  }
  for (const ExchangeRow& row : table.rows) {
    if (&row == &table.rows.front()) continue;
    app.check("loss gap, " + row.name, table.gap(row),
              allowed_gap(row.name, app.smoke()));
  }
}

void run(dai::App& app, HooksAppOptions given) {
  given.compared.settle(app.launch().world_size);
  CompareExchangesOptions options;
  Stage stage = set_stage(app, given.compared, "ch03_comm_hooks",
                          given.to_string(app.seed()), [&] {
                            options = given.options(app.seed());
                            options.check(app.launch().world_size);
                          });
  dai::ProcessGroup& group = stage.group;
  if (app.tracing()) options.training.trace = &app.trace();
  const ExchangeTable table = compare_exchanges(group, stage.corpus, options);
  app.print(table.to_string() + "\n");
  prove(app, table, group.backend_name() == "gloo");
  for (const auto& [name, value] : table.metrics()) app.metric(name, value);
  app.attach("curves", table.curves());
  if (app.tracing()) {
    app.set_merged_trace(dai::merged_trace(group, app.trace()));
  }
}

int main(int argc, char** argv) {
  HooksAppOptions options;
  const dai::AppSpec spec{
      .name = "ch03_comm_hooks",
      .shows = "fewer bytes for a gradient: how many less, and at what price",
      .example = "scripts/book run ch03_comm_hooks -n 2",
      .declare = [&](dai::OptionSet& set) { options.declare(set); }};
  return dai::run_app(argc, argv, spec,
                      [&](dai::App& app) { run(app, options); });
}
