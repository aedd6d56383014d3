// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/bottleneck/placed_steps.h"

#include <fmt/format.h>

#include "ch06_paged_inference/bottleneck/bottleneck_options.h"
#include "common/app.h"
#include "common/report.h"

using namespace dai::paged;

std::vector<PlacedStep> prefill_and_decode(const BottleneckOptions& o,
                                           LoadedModel& model,
                                           const dai::intro::Roofline& roofs) {
  const auto place = [&](const std::string& name, const StepShape& shape) {
    return place_step(name, shape, model, roofs, static_cast<int>(o.repeats));
  };
  std::vector<PlacedStep> steps;
  for (const std::int64_t batch : {1, 4, 16}) {
    steps.push_back(place(fmt::format("decode, {} at a time", batch),
                          {.rows = batch, .position = o.context - 1}));
  }
  for (const std::int64_t tokens :
       {std::int64_t{16}, std::int64_t{64}, o.prompt}) {
    steps.push_back(
        place(fmt::format("prefill, {} tokens", tokens), {.count = tokens}));
  }
  return steps;
}

nlohmann::ordered_json show(dai::App& app,
                            const std::vector<PlacedStep>& steps) {
  dai::Table table({"step", "tokens", "MB", "FLOP/B", "roof ms", "ms",
                    "of the roof", "tokens/s", "bound by"});
  nlohmann::ordered_json points = nlohmann::ordered_json::array();
  for (const PlacedStep& s : steps) {
    const dai::intro::Placement& p = s.placement;
    table.add_row(
        {s.name, fmt::format("{:.0f}", s.tokens),
         fmt::format("{:.0f}", static_cast<double>(s.work.bytes) / 1e6),
         fmt::format("{:.1f}", p.intensity),
         fmt::format("{:.1f}", p.roof_seconds * 1e3),
         fmt::format("{:.1f}", s.ms), fmt::format("{:.0f} %", 100 / p.slowdown),
         fmt::format("{:.0f}", s.tokens / s.ms * 1e3),
         dai::intro::to_string(p.bound)});
    points.push_back({{"name", s.name},
                      {"intensity_flop_per_byte", p.intensity},
                      {"flop_per_s", p.flop_per_s},
                      {"inside", true}});
  }
  app.print(table.to_string());
  return points;
}

void show(dai::App& app, const std::vector<KvGrowth>& growth) {
  dai::Table table({"context", "KV MB a sequence", "of a step's bytes, alone",
                    "batch 32", "compute-bound from batch"});
  for (const KvGrowth& g : growth) {
    table.add_row({fmt::format("{}", g.context),
                   fmt::format("{:.1f}", g.sequence_bytes / 1e6),
                   fmt::format("{:.0f} %", 100 * g.share_alone),
                   fmt::format("{:.0f} %", 100 * g.share_of_32),
                   g.compute_bound_from == 0
                       ? std::string("never")
                       : fmt::format("{}", g.compute_bound_from)});
  }
  app.print("\n" + table.to_string());
}

int main(int argc, char** argv) {
  BottleneckOptions o;
  const dai::AppSpec spec{
      .name = "ch06_inference_bottleneck",
      .shows = "prefill and decode under the roofline, and how the cache grows",
      .example = "scripts/book run ch06_inference_bottleneck -- --context 1024",
      .declare = [&](dai::OptionSet& set) { o.declare(set); }};
  return dai::run_app(argc, argv, spec, [&](dai::App& app) {
    LoadedModel model(o.model, app);
    app.print(model.description());
    const dai::intro::Roofline roofs = o.roofline(app);
    const dai::intro::MemoryLevel& memory = roofs.levels.back();
    const double ridge = roofs.ridge(memory);
    app.print(fmt::format(
        "{} roofs: {:.0f} GFLOP/s, {:.1f} GB/s from {}; below {:.1f} FLOP/B "
        "memory decides\n\n",
        o.roofs, roofs.peak_flop_per_s / 1e9, memory.bytes_per_s / 1e9,
        memory.name, ridge));
    const std::vector<PlacedStep> steps = prefill_and_decode(o, model, roofs);
    const auto points = show(app, steps);
    show(app, kv_growth(model.config(), {128, 1024, 8192, 32768}, ridge));
    app.attach("roofline",
               {{"peaks_flop_per_s", {{"fp32", roofs.peak_flop_per_s}}},
                {"levels_bytes_per_s", {{memory.name, memory.bytes_per_s}}},
                {"points", points}});
    const double token = kv_bytes_per_token(model.config(), kValueBytes);
    app.metric("ridge_flop_per_byte", ridge);
    app.metric("kv_bytes_per_token", token);
    const double decode = steps.front().placement.intensity;
    const double prefill = steps.back().placement.intensity;
    app.check("FLOP/B of decode alone over prefill's", decode / prefill, 0.05);
    app.check("decode alone: FLOP/B over the ridge", decode / ridge, 1);
    app.check("the ridge over prefill's FLOP/B", ridge / prefill, 1);
    if (o.roofs == "measured") {
      double faster = 0;
      for (const PlacedStep& s : steps) faster += s.placement.slowdown < 0.9;
      app.check("steps that are faster than their roof", faster, 0);
      const auto rate = [](const PlacedStep& s) { return s.tokens / s.ms; };
      app.check("tokens/s of decode alone / prefill's",
                rate(steps.front()) / rate(steps.back()), 0.5);
    }
    const TorchRunner& runner = model.runner();
    app.check(
        "bytes of keys and values, counted - allocated",
        token * static_cast<double>(runner.kv_blocks() * runner.block_size()) -
            static_cast<double>(runner.kv_bytes()),
        0);
  });
}
