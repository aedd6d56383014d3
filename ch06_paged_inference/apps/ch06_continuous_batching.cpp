// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/schedule/virtual_run.h"

#include <fmt/format.h>

#include <algorithm>

#include "ch01_intro/statistics/statistics.h"
#include "ch06_paged_inference/schedule_app/timed_trace_options.h"
#include "common/app.h"
#include "common/report.h"

using namespace dai::paged;

nlohmann::ordered_json timeline(const ServedTrace& run) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const ServedRequest& r : run.requests) {
    rows.push_back({r.arrival_ms, r.first_ms, r.end_ms});
  }
  return rows;
}

int main(int argc, char** argv) {
  TimedTraceOptions o{.requests = 120, .prompt = 64, .output = 48};
  std::string real_time = "off";
  const dai::AppSpec spec{
      .name = "ch06_continuous_batching",
      .shows = "static against continuous batching, on one trace of arrivals",
      .example =
          "scripts/book run ch06_continuous_batching -- --per-second 1.5",
      .declare = [&](dai::OptionSet& set) {
        o.declare(set);
        set.add("--step-tokens", o.model.step_tokens, "budget of a step");
        set.add("--real-time", real_time, {"off", "both", "continuous"},
                "the best static batch and continuous, or this one only, once "
                "more by the model itself, as the clock goes");
      }};
  return dai::run_app(argc, argv, spec, [&](dai::App& app) {
    const StepCost cost = o.step_cost(app);
    const std::vector<TimedRequest> trace = o.trace(app.seed());
    dai::Table table({"batching", "tokens/s", "TTFT p50 s", "p99 s",
                      "TPOT p50 ms", "p99 ms", "all done s"});
    const auto row = [&](const std::string& name, const ServedTrace& run) {
      table.add_row({name, fmt::format("{:.1f}", run.tokens_per_s()),
                     fmt::format("{:.2f}", run.ttft_ms(50) / 1e3),
                     fmt::format("{:.2f}", run.ttft_ms(99) / 1e3),
                     fmt::format("{:.0f}", run.tpot_ms(50)),
                     fmt::format("{:.0f}", run.tpot_ms(99)),
                     fmt::format("{:.0f}", run.end_ms / 1e3)});
    };
    // The best of the losing side: every size of batch is tried.
    ServedTrace best;
    std::int64_t best_batch = 0;
    for (const std::int64_t batch : {1, 2, 4, 8, 16, 32, 64}) {
      const ServedTrace run = serve_statically(trace, batch, {}, cost);
      row(fmt::format("static, {}", batch), run);
      if (best_batch == 0 || run.ttft_ms(50) < best.ttft_ms(50)) {
        best = run;
        best_batch = batch;
      }
    }
    const ServedTrace run = serve_continuously(trace, o.server(cost), cost);
    row("continuous", run);
    // What static batching has to lose against: half of its wait, unless there
    // is nothing to wait for. Then cutting prompts up may cost more.
    std::vector<TimedRequest> prompts = trace;
    std::nth_element(
        prompts.begin(), prompts.begin() + prompts.size() / 2, prompts.end(),
        [](const auto& a, const auto& b) { return a.prompt < b.prompt; });
    const std::int64_t prompt = prompts[prompts.size() / 2].prompt;
    const double alone =
        serve_continuously({{0, prompt, 1}}, o.server(cost), cost).ttft_ms(50);
    const double bound = best.ttft_ms(50) > 3 * alone ? 0.5 : 1.5;
    if (real_time != "off") {
      std::vector<double> step_ms;
      const ServedTrace joins = o.serve_really(app, trace, 0, &step_ms);
      row("continuous, in real time", joins);
      app.attach("in_real_time", timeline(joins));
      app.metric("continuous_ttft_p50_ms_real", joins.ttft_ms(50));
      app.metric("longest_step_ms_real", joins.longest_step_ms);
      app.metric("step_p50_ms_real", dai::intro::percentile(step_ms, 50));
      app.metric("step_p99_ms_real", dai::intro::percentile(step_ms, 99));
      app.attach("step_ms", step_ms);
      if (real_time == "both") {
        const ServedTrace waits = o.serve_really(app, trace, best_batch);
        row(fmt::format("static, {}, in real time", best_batch), waits);
        app.metric("static_ttft_p50_ms_real", waits.ttft_ms(50));
        app.check("median TTFT in real time, continuous / static",
                  joins.ttft_ms(50) / waits.ttft_ms(50), bound);
      }
    }
    app.print(table.to_string());
    app.print(fmt::format(
        "\n{} requests in {:.0f} s; virtual time. Static does best with "
        "batches "
        "of {}: there half of all wait {:.1f} times as long for their first "
        "token.\n",
        trace.size(), trace.back().arrival_ms / 1e3, best_batch,
        best.ttft_ms(50) / run.ttft_ms(50)));
    app.attach("request_timeline",
               {{fmt::format("static, {}", best_batch), timeline(best)},
                {"continuous", timeline(run)}});
    app.metric("static_batch", static_cast<double>(best_batch));
    app.metric("static_ttft_p50_ms", best.ttft_ms(50));
    app.metric("continuous_ttft_p50_ms", run.ttft_ms(50));
    app.metric("static_tokens_per_s", best.tokens_per_s());
    app.metric("continuous_tokens_per_s", run.tokens_per_s());
    app.check("median TTFT, continuous / best static",
              run.ttft_ms(50) / best.ttft_ms(50), bound);
    if (bound < 1) {
      app.check("tokens/s, best static / continuous",
                best.tokens_per_s() / run.tokens_per_s(), 1.02);
    }
  });
}
