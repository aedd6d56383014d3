// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/placement/placed_layers.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <cstdlib>

#include "ch01_intro/placement/roofline_app_options.h"
#include "ch01_intro/recorded/recorded.h"
#include "common/app.h"
#include "common/torch/device.h"

using namespace dai::intro;

constexpr const char* kName = "ch01_roofline";

void show(dai::App& app, const std::string& what,
          const LayerMeasurement& measurement, const RooflineVerdict& verdict) {
  app.print(fmt::format("{}: {} of {} x {} tokens, {} thread{}\n\n{}\n{}\n",
                        what, measurement.decoder, measurement.shapes.batch,
                        measurement.shapes.sequence, measurement.threads,
                        measurement.threads == 1 ? "" : "s",
                        roof_table(measurement), layer_table(verdict)));
}

void run(dai::App& app, RooflineAppOptions& options) {
  options.resolve(app.launch(), app.seed());
  const DecoderConfig config = decoder_config(options.decoder);
  const std::int64_t expected = expected_product_flops(config, options.shapes);
  const std::string path = options.recorded.empty()
                               ? recorded_path("roofline.json")
                               : options.recorded;
  const Recorded recorded = read_recorded(path, kName);
  if (options.threads > 0) {
    at::set_num_threads(static_cast<int>(options.threads));
  }
  app.print(fmt::format("{}: on {}\n", kName,
                        dai::describe_device(options.roofs.device)));

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
  app.print(
      fmt::format("layers outside their roofs take {:.1f} % of the time\n",
                  100 * verdict.outside_time_share));
  app.metric("outside_time_share_ratio", verdict.outside_time_share);
  app.check(fmt::format("share of layers outside 1 to {:.0f} x their roof",
                        kMostSlowdown),
            verdict.outside_share, kOutsideShare);
}

int main(int argc, char** argv) {
  RooflineAppOptions options;
  const dai::AppSpec spec{
      .name = kName,
      .shows = "what bounds each layer: peak, bandwidth by level, placements",
      .example = "scripts/book run ch01_roofline -- --json roofline.json",
      .declare = [&](dai::OptionSet& set) { options.declare(set); }};
  return dai::run_app(argc, argv, spec,
                      [&](dai::App& app) { run(app, options); });
}
