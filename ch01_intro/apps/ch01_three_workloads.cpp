// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/workloads/three_workloads.h"

#include <fmt/format.h>

#include "ch01_intro/memory_plan/memory_fit.h"
#include "ch01_intro/recorded/recorded.h"
#include "ch01_intro/workloads/workloads_app_options.h"
#include "common/app.h"
#include "common/control_group.h"
#include "common/torch/device.h"

using namespace dai::intro;

constexpr const char* kName = "ch01_three_workloads";

// A busy machine is no fault of the code: --smoke judges what was measured on
// an idle one, by the same rules.
ThreeWorkloads what_is_judged(dai::App& app, const Recorded& recorded,
                              const ThreeWorkloads& live) {
  if (!app.smoke()) return live;
  const ThreeWorkloads all = ThreeWorkloads::from_json(recorded.data);
  app.print(fmt::format("\nrecorded on {}, judged below\n\n{}", recorded.origin,
                        all.to_table()));
  return all;
}

void run(dai::App& app, WorkloadsAppOptions& options) {
  const at::Device device = dai::choose_device(options.device, app.launch());
  if (device.is_cpu())
    check_fits(options.training(), dai::memory_available_bytes());
  options.resolve(device, app.seed());
  const Recorded recorded = read_recorded(
      options.recorded.empty() ? recorded_path("three_workloads.json")
                               : options.recorded,
      kName);
  LayerMeasurement roofs;
  measure_roofs(options.roofs, roofs);
  const ThreeWorkloads live =
      measure_three_workloads(options.workloads, roofs.roofline(), device);
  app.print(fmt::format("{}: {}, {}, on {}\n\n{}", kName, options.model,
                        options.rung, dai::describe_device(device),
                        live.to_table()));
  for (const WorkloadRow& row : live.rows) {
    const std::string name =
        fmt::format("{}_batch{}_", row.work.name, row.work.batch);
    app.metric(name + "ms", 1e3 * row.seconds);
    app.metric(name + "tokens_per_s", row.tokens_per_s());
    app.metric(name + "flop_per_byte", row.work.intensity());
    app.metric(name + "slowdown_ratio", row.place.slowdown);
  }
  app.attach("workloads", live.to_json());
  if (!options.record.empty()) {
    write_recorded(options.record, kName, live.to_json());
  }
  const WorkloadVerdict verdict = judge(what_is_judged(app, recorded, live));
  app.print("\n");
  app.check("work faster than its roof", verdict.faster_than_roof, 0);
  app.check("work on the wrong side of the ridge", verdict.misplaced, 0);
  app.check("intensities out of order", verdict.out_of_order, 0);
  app.check("largest batch below twice the first's throughput",
            verdict.batching_lost, 0);
}

int main(int argc, char** argv) {
  WorkloadsAppOptions options;
  const dai::AppSpec spec{
      .name = kName,
      .shows = "one model trains, answers and serves: what bounds each",
      .example = "scripts/book run ch01_three_workloads -- --model bench-9m",
      .declare = [&](dai::OptionSet& set) { options.declare(set); }};
  return dai::run_app(argc, argv, spec,
                      [&](dai::App& app) { run(app, options); });
}
