// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/shapes/shape_advice.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "ch01_intro/recorded/recorded.h"
#include "ch01_intro/shapes/advisor_app_options.h"
#include "ch01_intro/shapes/shape_report.h"
#include "common/app.h"
#include "common/torch/device.h"

using namespace dai::intro;

constexpr const char* kName = "ch01_shape_advisor";

// The rule is proved on what was measured here, or, in a smoke run, recorded.
void prove(dai::App& app, const CpuRuleMeasurement& judged) {
  const RuleVerdict verdict = judge_cpu_rule(judged);
  app.print(rule_table(judged, verdict) + "\n");
  app.check(fmt::format("{}: pairs not padded to the rule", judged.dtype),
            static_cast<double>(verdict.off_rule), 0);
  app.check(
      fmt::format("{}: slowdown of a padded size, 95 % bound", judged.dtype),
      verdict.worst_slowdown, kRuleSlowdown);
}

void measure(dai::App& app, AdvisorAppOptions& options) {
  auto record = nlohmann::ordered_json::array();
  options.rule.seed = app.seed();
  if (options.threads > 0) {
    at::set_num_threads(static_cast<int>(options.threads));
  }
  for (const std::string dtype : {"fp32", "bf16"}) {
    if (options.dtype != "both" && options.dtype != dtype) continue;
    options.rule.dtype = dtype_named(dtype);
    const CpuRuleMeasurement live = measure_cpu_rule(options.rule);
    record.push_back(to_json(live));
    app.print(fmt::format("{} on this CPU, {}\n", dtype,
                          dai::describe_device(at::kCPU)));
    for (const RuleAxis axis : kRuleAxes) {
      app.metric(fmt::format("{}_{}_multiple_elements", dtype, to_string(axis)),
                 static_cast<double>(derive_rule(live, axis).multiple));
    }
    if (app.smoke()) {
      app.print("too short a look to decide anything:\n" +
                rule_table(live, judge_cpu_rule(live)) + "\n");
    } else {
      prove(app, live);
    }
  }
  if (!options.record.empty()) write_recorded(options.record, kName, record);
}

void run(dai::App& app, AdvisorAppOptions& options) {
  const GpuModel& gpu = named_gpu(options.gpu);
  const ShapeQuestion question = options.question();
  const ShapeAdvice advice = advise(question, gpu);
  app.print(fmt::format(
      "{}: {} on {} ({} SMs), {} x {} tokens, {} rank(s), bf16\n\n{}\n{}\n"
      "useful share of tiles and waves: {:.1f} % now, {:.1f} % as advised\n\n",
      kName, question.model.name, gpu.name, gpu.sms, question.batch,
      question.sequence, question.tensor_parallel, advice_table(advice),
      matmul_table(question, advice.advised, gpu), 100 * advice.efficiency_now,
      100 * advice.efficiency_advised));
  const auto rows = published_rows();
  app.print(published_table(rows) + "\n");
  app.check("published rows that differ", static_cast<double>(rows_off(rows)),
            0);
  app.check("efficiency lost by advice, any decoder on any GPU",
            largest_loss_by_advice(), 0);
  const std::string path = options.recorded.empty()
                               ? recorded_path("cpu_rule.json")
                               : options.recorded;
  const Recorded recorded = read_recorded(path, kName);
  measure(app, options);
  if (app.smoke()) {
    for (const auto& item : recorded.data) {
      const auto judged = cpu_rule_from_json(item, "'" + path + "'");
      app.print(fmt::format("{} recorded on {}, {} thread(s)\n", judged.dtype,
                            recorded.origin, judged.threads));
      prove(app, judged);
    }
  }
  app.metric("efficiency_now_share", advice.efficiency_now);
  app.metric("efficiency_advised_share", advice.efficiency_advised);
  app.attach("advice", to_json(advice));
}

int main(int argc, char** argv) {
  AdvisorAppOptions options;
  const dai::AppSpec spec{
      .name = kName,
      .shows = "which sizes of a decoder a GPU and this CPU like, and why",
      .example =
          "scripts/book run ch01_shape_advisor -- --gpu A100 --vocab "
          "50257",
      .declare = [&](dai::OptionSet& set) { options.declare(set); }};
  return dai::run_app(argc, argv, spec,
                      [&](dai::App& app) { run(app, options); });
}
