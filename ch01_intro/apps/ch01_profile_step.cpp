// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/profile/step_profiler.h"

#include <ATen/record_function.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "ch01_intro/memory_plan/memory_fit.h"
#include "ch01_intro/module_file/input_spec.h"
#include "ch01_intro/module_file/script_module.h"
#include "ch01_intro/profiled_step/profile_app_options.h"
#include "common/app.h"
#include "common/control_group.h"
#include "common/torch/device.h"

using namespace dai::intro;

// What holds for any step that was recorded.
void report(dai::App& app, const StepReport& report, std::int64_t rows) {
  app.print(report.operators_table(static_cast<std::size_t>(rows)) + "\n");
  app.print(report.groups_table() + "\n" + report.modules_table() + "\n");
  app.print(fmt::format(
      "{:.1f} % of the step is neither a matrix product nor attention. A step "
      "takes {:.3f} ms, recorded {:.3f} ms.\n",
      100 * report.profile.outside_products(), report.bare_ms,
      report.recorded_ms()));
  if (!report.unknown.empty()) {
    app.print(
        fmt::format("no FLOP rule for: {}\n", fmt::join(report.unknown, ", ")));
  }
  app.check("operators that multiply and have no FLOP rule",
            static_cast<double>(report.unknown.size()), 0);
  app.check(
      "|self times - step| in ns",
      static_cast<double>(report.profile.self_ns() - report.profile.wall_ns),
      0);
  app.check("events that outlast the one around them",
            static_cast<double>(report.profile.escaped), 0);
  app.check("recorded steps / our clock around them - 1",
            report.outlasts_clock(), 0.02);
  for (const auto& [name, value] : report.metrics()) app.metric(name, value);
  app.attach("profile", report.to_json());
  if (app.tracing()) app.set_merged_trace(report.trace);
}

void profile_decoder(dai::App& app, const ProfileAppOptions& options,
                     at::Device device) {
  if (device.is_cpu())
    check_fits(options.memory(), dai::memory_available_bytes());
  DecoderStep step(options.decoder, device);
  const StepReport measured =
      profile_step([&] { step(); }, device, options.profile);
  const StepFlops paper = step.flops();
  app.print(fmt::format(
      "decoder {}: {} parameters, batch {} x {} tokens, "
      "{} operations\n\n",
      step.config().name, step.config().parameter_count(),
      options.decoder.batch, options.decoder.seq, options.decoder.rung));
  app.print(flops_table(paper) + "\n");
  app.print(fmt::format(
      "FLOPs counted {}, on paper {}; Kineto counts {}: nothing for "
      "attention's {} and oneDNN's {}, one for each sum and product of "
      "elements\n\n",
      measured.flops, paper.total(), measured.kineto_flops, measured.attention,
      measured.flops_of("mkldnn::_linear_pointwise")));
  const auto definitions =
      flop_definitions(step.config(), options.decoder.batch,
                       options.decoder.seq, step.choices());
  app.print(definitions_table(definitions) + "\n");
  for (const FlopDefinition& d : definitions) {
    app.metric("definition_" + d.name + "_flops", d.flops);
  }
  app.check("|FLOPs counted - on paper|",
            static_cast<double>(measured.flops - paper.total()), 0);
  app.check("modules without forward or backward time",
            static_cast<double>(
                measured.profile.idle_modules(step.module_names()).size()),
            0);
  report(app, measured, options.rows);
}

void profile_module(dai::App& app, const ProfileAppOptions& options,
                    at::Device device) {
  ScriptModule module = ScriptModule::load(options.module, device);
  const auto inputs =
      make_inputs(parse_input_shapes(options.input_shape), app.seed(), device);
  const StepReport measured = profile_step(
      [&] {
        at::Tensor loss;
        {
          RECORD_USER_SCOPE("forward");
          loss = module.loss(inputs);
        }
        if (loss.requires_grad()) loss.backward();
      },
      device, options.profile);
  app.print(fmt::format("module {}: {} FLOPs counted, Kineto counts {}\n\n",
                        options.module, measured.flops, measured.kineto_flops));
  report(app, measured, options.rows);
}

int main(int argc, char** argv) {
  ProfileAppOptions options;
  const dai::AppSpec spec{
      .name = "ch01_profile_step",
      .shows = "where a training step's time goes and how many FLOPs it takes",
      .example = "scripts/book run ch01_profile_step -- --trace step.json",
      .declare = [&](dai::OptionSet& set) { options.declare(set); }};
  return dai::run_app(argc, argv, spec, [&](dai::App& app) {
    options.check();
    options.decoder.seed = app.seed();
    options.profile.trace = app.tracing();
    const at::Device device = dai::choose_device(options.device, app.launch());
    app.print(
        fmt::format("ch01_profile_step on {}\n", dai::describe_device(device)));
    (options.module.empty() ? profile_decoder : profile_module)(app, options,
                                                                device);
  });
}
