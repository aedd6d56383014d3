// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/placement/placed_layers.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <cstdlib>

#include "ch01_intro/placement/layer_times.h"
#include "ch01_intro/placement/machine_roofs.h"
#include "ch01_intro/recorded/recorded.h"
#include "common/app.h"
#include "common/torch/device.h"

using namespace dai::intro;

constexpr const char* kName = "ch01_roofline";

struct Options {
  std::int64_t threads = 1;
  std::string decoder = "bench-9m", device = "auto", rung = "fused";
  std::string record, recorded;
  LayerShapes shapes;
  RoofOptions roofs;
  LayerTimeOptions times;
};

void declare(dai::OptionSet& set, Options& options) {
  set.add("--decoder", options.decoder, "whose layers are placed");
  set.add("--batch", options.shapes.batch, "sequences");
  set.add("--seq", options.shapes.sequence, "tokens of each");
  set.add("--rung", options.rung, {"naive", "fused"},
          "plain operators, or one pass each");
  set.add("--device", options.device, {"auto", "cpu", "cuda"},
          "where they run");
  set.add("--threads", options.threads,
          "that share a product on the CPU; 0: as many as OMP_NUM_THREADS says",
          0);
  set.add("--peak-seconds", options.roofs.search.seconds,
          "to search the fastest matrix product, for each dtype");
  set.add("--largest", options.roofs.search.largest,
          "side of the largest matrix that the search tries", 256);
  set.add("--layer-seconds", options.times.seconds, "to time each layer");
  set.add("--record", options.record, "write this machine's measurement there");
  set.add("--recorded", options.recorded,
          "the measurement that --smoke judges; left out: the committed one");
  options.roofs.search.seconds = 5;
  set.preset("smoke", [&] {
    options.decoder = "nano-1m";
    options.shapes = {.batch = 2, .sequence = 64};
    options.roofs.search.largest = 512;
    options.roofs.search.seconds = 0.3;
    options.roofs.bandwidth_seconds = 0.01;
    options.roofs.memory_bytes = 64 << 20;
    options.times.seconds = 0.005;
  });
  const auto gpu = [&] {
    options.roofs.search.largest = 16384;
    options.decoder = "smollm2-135m";
    options.shapes = {.batch = 8, .sequence = 1024};
  };
  set.preset("gpu24", gpu);
  set.preset("gpu80", gpu);
}

void show(dai::App& app, const std::string& what,
          const LayerMeasurement& measurement, const RooflineVerdict& verdict) {
  app.print(fmt::format("{}: {} of {} x {} tokens, {} thread(s)\n\n{}\n{}\n",
                        what, measurement.decoder, measurement.shapes.batch,
                        measurement.shapes.sequence, measurement.threads,
                        roof_table(measurement), layer_table(verdict)));
}

void run(dai::App& app, Options& options) {
  const at::Device device = dai::choose_device(options.device, app.launch());
  const DecoderConfig config = decoder_config(options.decoder);
  options.shapes.fused = options.rung == "fused";
  options.times.ops = options.shapes.fused ? &fused_ops() : &naive_ops();
  const std::int64_t expected = expected_product_flops(config, options.shapes);
  const std::string path = options.recorded.empty()
                               ? recorded_path("roofline.json")
                               : options.recorded;
  const Recorded recorded = read_recorded(path, kName);
  if (options.threads > 0) {
    at::set_num_threads(static_cast<int>(options.threads));
  }
  options.roofs.device = options.times.device = device;
  options.roofs.seed = options.times.seed = app.seed();
  app.print(fmt::format("{}: on {}\n", kName, dai::describe_device(device)));

  LayerMeasurement live;
  measure_roofs(options.roofs, live);
  time_layers(options.times, config, options.shapes, live);
  RooflineVerdict verdict = judge_roofline(live);
  show(app, "measured here", live, verdict);
  for (const auto& [dtype, peak] : live.peaks) {
    app.metric(dtype + "_achievable_flop_per_s", peak.best.flop_per_s());
  }
  for (const MemoryLevel& level : live.levels) {
    app.metric(level.name + "_bytes_per_s", level.bytes_per_s);
  }
  app.attach("roofline", roofline_chart(live, verdict));
  if (!options.record.empty()) {
    write_recorded(options.record, kName, to_json(live));
  }

  const std::int64_t counted =
      counted_product_flops(options.times, config, options.shapes);
  app.check("matmul operations: by shapes - by the dispatcher",
            static_cast<double>(std::abs(counted - expected)), 0);
  if (app.smoke()) {
    const auto judged =
        layer_measurement_from_json(recorded.data, "'" + path + "'");
    verdict = judge_roofline(judged);
    show(app, "recorded on " + recorded.origin, judged, verdict);
  }
  app.check(fmt::format("share of layers outside 1 to {:.0f} x their roof",
                        kMostSlowdown),
            verdict.outside_share, kOutsideShare);
}

int main(int argc, char** argv) {
  Options options;
  const dai::AppSpec spec{
      .name = kName,
      .shows = "what bounds each layer: peak, bandwidth by level, placements",
      .example = "scripts/book run ch01_roofline -- --json roofline.json",
      .declare = [&](dai::OptionSet& set) { declare(set, options); }};
  return dai::run_app(argc, argv, spec,
                      [&](dai::App& app) { run(app, options); });
}
