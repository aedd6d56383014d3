// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/bottleneck/step_work.h"

#include <fmt/format.h>

#include <cmath>

#include "ch01_intro/placement/machine_roofs.h"
#include "ch06_paged_inference/generate/loaded_model.h"
#include "common/app.h"
#include "common/report.h"
#include "common/torch/device.h"

using namespace dai::paged;

struct BottleneckOptions {
  LoadedModelOptions model;
  std::int64_t context = 256, prompt = 256, repeats = 3;
  double roof_seconds = 0.2;
  std::string roofs = "measured";

  void declare(dai::OptionSet& set) {
    set.add("--context", context, "tokens that a decode step looks back at", 2,
            4096);
    set.add("--prompt", prompt, "tokens of the longest prompt", 65, 4096);
    set.add("--repeats", repeats, "steps timed of each shape");
    set.add("--roof-seconds", roof_seconds,
            "to measure each roof of the machine", 1e-3);
    set.add("--roofs", roofs, {"measured", "recorded"},
            "of this machine, or kept from another");
    set.add("--model", model.model, "as ch06_generate's");
    set.add("--device", model.device, {"auto", "cpu", "cuda"},
            "where to compute");
    set.preset("smoke", [this] {
      repeats = 1;
      roofs = "recorded";
      context = 64;
      prompt = 128;
    });
    set.preset("laptop", [] {});
  }
};

dai::intro::Roofline measured_roofline(const BottleneckOptions& o,
                                       at::Device device, std::uint64_t seed) {
  dai::intro::RoofOptions options;
  options.device = device;
  options.bandwidth_seconds = o.roof_seconds;
  options.seed = seed;
  options.search.seconds = o.roof_seconds;
  dai::intro::LayerMeasurement measured;
  dai::intro::measure_roofs(options, measured);
  return measured.roofline();
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
    const dai::intro::DecoderConfig& config = model.config();
    const dai::intro::Roofline roofline =
        o.roofs == "recorded"
            ? recorded_roofline()
            : measured_roofline(
                  o, dai::choose_device(o.model.device, app.launch()),
                  app.seed());
    const dai::intro::MemoryLevel& memory = roofline.levels.back();
    const double ridge = roofline.ridge(memory);
    app.print(fmt::format(
        "{} roofs: {:.0f} GFLOP/s, {:.1f} GB/s from {}; below {:.1f} FLOP/B "
        "memory decides\n\n",
        o.roofs, roofline.peak_flop_per_s / 1e9, memory.bytes_per_s / 1e9,
        memory.name, ridge));

    dai::Table table({"step", "tokens", "MB", "FLOP/B", "roof ms", "ms",
                      "of the roof", "tokens/s", "bound by"});
    nlohmann::ordered_json points = nlohmann::ordered_json::array();
    const auto place = [&](const std::string& name, const StepShape& shape) {
      dai::intro::Work work = step_work(config, shape, 4, 4);
      const double ms =
          measured_step_ms(model.runner(), shape, static_cast<int>(o.repeats));
      work.name = name;
      work.seconds = ms / 1e3;
      const dai::intro::Placement p = roofline.place(work);
      const auto tokens = static_cast<double>(shape.rows * shape.count);
      table.add_row(
          {name, fmt::format("{:.0f}", tokens),
           fmt::format("{:.0f}", static_cast<double>(work.bytes) / 1e6),
           fmt::format("{:.1f}", p.intensity),
           fmt::format("{:.1f}", p.roof_seconds * 1e3),
           fmt::format("{:.1f}", ms), fmt::format("{:.0f} %", 100 / p.slowdown),
           fmt::format("{:.0f}", tokens / ms * 1e3),
           dai::intro::to_string(p.bound)});
      points.push_back({{"name", name},
                        {"intensity_flop_per_byte", p.intensity},
                        {"flop_per_s", p.flop_per_s},
                        {"inside", true}});
      return p;
    };
    double first = 0;
    for (const std::int64_t batch : {1, 4, 16}) {
      const auto p = place(fmt::format("decode, {} at a time", batch),
                           {.rows = batch, .position = o.context - 1});
      if (batch == 1) first = p.intensity;
    }
    double prefill = 0;
    for (const std::int64_t tokens :
         {std::int64_t{16}, std::int64_t{64}, o.prompt}) {
      prefill =
          place(fmt::format("prefill, {} tokens", tokens), {.count = tokens})
              .intensity;
    }
    app.print(table.to_string());

    dai::Table growth({"context", "KV MB a sequence",
                       "of a step's bytes, alone", "batch 32",
                       "compute-bound from batch"});
    for (const std::int64_t context : {128, 1024, 8192, 32768}) {
      const auto share = [&](std::int64_t rows) {
        const auto all = static_cast<double>(
            step_work(config, {.rows = rows, .position = context - 1}, 4, 4)
                .bytes);
        return 100 * static_cast<double>(rows * (context + 1)) *
               kv_bytes_per_token(config, 4) / all;
      };
      const std::int64_t batch =
          compute_bound_batch(config, context, ridge, 4, 4);
      growth.add_row(
          {fmt::format("{}", context),
           fmt::format("{:.1f}", static_cast<double>(context) *
                                     kv_bytes_per_token(config, 4) / 1e6),
           fmt::format("{:.0f} %", share(1)),
           fmt::format("{:.0f} %", share(32)),
           batch == 0 ? std::string("never") : fmt::format("{}", batch)});
    }
    app.print("\n" + growth.to_string());
    app.attach("roofline",
               {{"peaks_flop_per_s", {{"fp32", roofline.peak_flop_per_s}}},
                {"levels_bytes_per_s", {{memory.name, memory.bytes_per_s}}},
                {"points", points}});
    app.metric("ridge_flop_per_byte", ridge);
    app.metric("kv_bytes_per_token", kv_bytes_per_token(config, 4));
    app.check("FLOP/B of decode alone over prefill's", first / prefill, 0.05);
    app.check("decode alone: FLOP/B over the ridge", first / ridge, 1);
    app.check("the ridge over prefill's FLOP/B", ridge / prefill, 1);
    app.check("bytes of keys and values, counted - allocated",
              kv_bytes_per_token(config, 4) *
                      static_cast<double>(model.runner().kv_blocks() *
                                          model.runner().block_size()) -
                  static_cast<double>(model.runner().kv_bytes()),
              0);
  });
}
