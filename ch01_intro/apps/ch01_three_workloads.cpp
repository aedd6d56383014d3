// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/workloads/three_workloads.h"

#include <fmt/format.h>

#include "ch01_intro/placement/machine_roofs.h"
#include "ch01_intro/recorded/recorded.h"
#include "common/app.h"
#include "common/torch/device.h"

using namespace dai::intro;

constexpr const char* kName = "ch01_three_workloads";

struct Options {
  std::string model = "bench-9m", device = "auto", rung = "fused";
  std::string record, recorded;
  RoofOptions roofs;
  ThreeWorkloadsOptions workloads;
};

void declare(dai::OptionSet& set, Options& options) {
  set.add("--model", options.model, "decoder: nano-1m, bench-9m, ...");
  set.add("--batch", options.workloads.batch, "sequences of a training step");
  set.add("--seq", options.workloads.seq,
          "tokens of each, of a prompt, and of decode's context");
  set.add("--rung", options.rung, {"naive", "fused"},
          "plain operators, or one pass each");
  set.add("--repetitions", options.workloads.repetitions,
          "of each measurement");
  set.add("--device", options.device, {"auto", "cpu", "cuda"},
          "where they run");
  set.add("--peak-seconds", options.roofs.search.seconds,
          "to search the fastest matrix product, for each dtype");
  set.add("--record", options.record, "write this machine's measurement there");
  set.add("--recorded", options.recorded,
          "the measurement that --smoke judges; left out: the committed one");
  const auto gpu = [&](const char* model) {
    return [&options, model] {
      options.model = model;
      options.workloads.seq = 512;
      options.workloads.serve = {1, 4, 16, 64, 128};
      options.roofs.search.largest = 16384;
    };
  };
  set.preset("gpu24", gpu("base-110m"));
  set.preset("gpu80", gpu("large-730m"));
  set.preset("smoke", [&] {
    options.model = "nano-1m";
    options.workloads.batch = 2;
    options.workloads.seq = 32;
    options.workloads.serve = {1, 4};
    options.workloads.repetitions = 2;
    options.workloads.decode_steps = 4;
    options.roofs.search.largest = 512;
    options.roofs.search.seconds = 0.2;
    options.roofs.bandwidth_seconds = 0.01;
    options.roofs.memory_bytes = 64 << 20;
  });
}

// A busy machine is no fault of the code: --smoke judges what was measured on
// an idle one, by the same rules.
ThreeWorkloads what_is_judged(dai::App& app, const Options& options,
                              const ThreeWorkloads& live) {
  if (!app.smoke()) return live;
  const std::string path = options.recorded.empty()
                               ? recorded_path("three_workloads.json")
                               : options.recorded;
  const Recorded recorded = read_recorded(path, kName);
  const ThreeWorkloads all = ThreeWorkloads::from_json(recorded.data);
  app.print(fmt::format("\nrecorded on {}, judged below\n\n{}", recorded.origin,
                        all.to_table()));
  return all;
}

void run(dai::App& app, Options& options) {
  const at::Device device = dai::choose_device(options.device, app.launch());
  options.workloads.config = decoder_config(options.model);
  options.workloads.seed = app.seed();
  options.workloads.ops = options.rung == "naive" ? &naive_ops() : &fused_ops();
  options.roofs.device = device;
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
  const WorkloadVerdict verdict = judge(what_is_judged(app, options, live));
  app.print("\n");
  app.check("work faster than its roof", verdict.faster_than_roof, 0);
  app.check("work on the wrong side of the ridge", verdict.misplaced, 0);
  app.check("intensities out of order", verdict.out_of_order, 0);
  app.check("batches that gained no throughput", verdict.batching_lost, 0);
}

int main(int argc, char** argv) {
  Options options;
  const dai::AppSpec spec{
      .name = kName,
      .shows = "one model trains, answers and serves: what bounds each",
      .example = "scripts/book run ch01_three_workloads -- --model bench-9m",
      .declare = [&](dai::OptionSet& set) { declare(set, options); }};
  return dai::run_app(argc, argv, spec,
                      [&](dai::App& app) { run(app, options); });
}
