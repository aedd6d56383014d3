// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory_plan/memory_plan.h"

#include <fmt/format.h>

#include "ch01_intro/memory_plan/memory_fit.h"
#include "ch01_intro/memory_proof/ledger_app_options.h"
#include "ch01_intro/memory_proof/ledger_tables.h"
#include "ch01_intro/memory_proof/measured_module.h"
#include "common/app.h"
#include "common/control_group.h"
#include "common/torch/device.h"

using namespace dai::intro;

void prove(dai::App& app, const std::string& rung, const MemoryPlan& plan,
           const MeasuredStep& measured) {
  const auto named = [&](const char* what) {
    return fmt::format("{}: {}", rung, what);
  };
  const auto activations = plan.total(MemoryCategory::kActivations);
  app.check(named("|states predicted - measured| bytes"),
            static_cast<double>(states_error(plan, measured)), 0);
  app.check(named("activations off by"),
            relative_error(activations, measured.activations), 0.02);
  app.check(named("bytes gained from step to step"),
            static_cast<double>(leaked_bytes(measured)), 0);
  // A CUDA library's workspaces come out of the same allocator, and its kernels
  // want other scratch: what follows is known of the CPU only.
  if (!measured.report.timeline.empty()) {
    app.check(named("peak of a phase off by"), worst_peak_error(plan, measured),
              0.05);
    app.check(named("live bytes that no category explains"),
              static_cast<double>(measured.unexplained), 0);
  }
}

void run_decoder(dai::App& app, const LedgerAppOptions& options) {
  const at::Device device = dai::choose_device(options.device, app.launch());
  dai::set_deterministic_threads();
  app.print(
      fmt::format("ch01_memory_ledger: {} in {} on {}, {} sequences of {}\n",
                  options.model, options.precision,
                  dai::describe_device(device), options.batch, options.seq));
  nlohmann::ordered_json timelines;
  for (const Rung of : options.rungs()) {
    const std::string rung = to_string(of);
    const PlanSetup setup = options.setup(of);
    if (device.is_cpu()) check_fits(setup, dai::memory_available_bytes());
    const MemoryPlan plan = plan_memory(setup);
    app.print(fmt::format("\n{}: predicted from the configuration alone\n{}",
                          rung, prediction_table(plan)));
    const MeasuredStep measured =
        measure_steps(setup, options.steps, app.seed(), device);
    app.print(fmt::format("\n{}: measured over {} steps\n{}", rung,
                          options.steps, comparison_table(plan, measured)));
    if (!measured.report.timeline.empty()) {
      app.print("\n" + module_table(measured.report, 6));
      timelines[rung] = timeline_json(measured.report);
    }
    prove(app, rung, plan, measured);
    app.metric(rung + "_states_bytes", measured.states.total());
    app.metric(rung + "_activations_bytes", measured.activations);
    app.metric(rung + "_peak_bytes", measured.peak().peak_bytes);
  }
  if (!timelines.empty()) app.attach("memory_timeline", timelines);
}

void run_module(dai::App& app, const LedgerAppOptions& options) {
  const auto inputs = parse_input_shapes(options.input_shape);
  dai::set_deterministic_threads();
  const MeasuredModule measured =
      measure_module(options.module, inputs, options.steps, app.seed());
  app.print(fmt::format("ch01_memory_ledger: {} on cpu, inputs {}\n\n{}",
                        options.module, options.input_shape,
                        measured.to_string()));
  app.check("|states predicted - measured| bytes",
            static_cast<double>(measured.file.states + measured.file.constants -
                                measured.loaded_bytes),
            0);
  app.check("sum of the categories - live bytes",
            static_cast<double>(measured.report.at_end.total() - measured.live),
            0);
  const std::size_t steps = measured.after_step.size();
  app.check("bytes gained in the last step",
            static_cast<double>(measured.after_step[steps - 1] -
                                measured.after_step[steps - 2]),
            0);
  app.metric("states_bytes", measured.loaded_bytes);
  app.metric("activations_bytes", measured.activations);
  app.metric("peak_bytes", measured.report.peak.total());
  app.attach("memory_timeline", {{"module", timeline_json(measured.report)}});
}

int main(int argc, char** argv) {
  LedgerAppOptions options;
  const dai::AppSpec spec{
      .name = "ch01_memory_ledger",
      .shows =
          "where the bytes of a training step go, predicted, then measured",
      .example = "scripts/book run ch01_memory_ledger -- --model small-5m",
      .declare = [&](dai::OptionSet& set) { options.declare(set); }};
  return dai::run_app(argc, argv, spec, [&](dai::App& app) {
    options.check();
    options.module.empty() ? run_decoder(app, options)
                           : run_module(app, options);
  });
}
