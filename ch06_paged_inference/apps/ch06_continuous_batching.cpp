// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/schedule/virtual_run.h"

#include <fmt/format.h>

#include "ch06_paged_inference/generate/loaded_model.h"
#include "common/app.h"
#include "common/report.h"

using namespace dai::paged;

struct BatchingOptions {
  LoadedModelOptions model;
  std::int64_t requests = 120, prompt = 64, output = 48, repeats = 3;
  double per_second = 0.8;
  std::string cost = "measured";

  void declare(dai::OptionSet& set) {
    set.add("--requests", requests, "requests of the trace");
    set.add("--per-second", per_second, "of them arrive, on average", 1e-3);
    set.add("--prompt", prompt, "mean tokens of a prompt");
    set.add("--output", output, "mean tokens of an answer");
    set.add("--cost", cost, {"measured", "recorded"},
            "of a step: measured on this machine, or kept from another");
    set.add("--repeats", repeats, "steps timed of each shape");
    set.add("--model", model.model, "as ch06_generate's; its steps are timed");
    set.add("--device", model.device, {"auto", "cpu", "cuda"},
            "where to compute");
    set.preset("smoke", [this] { cost = "recorded"; });
    set.preset("laptop", [] {});
  }
};

nlohmann::ordered_json timeline(const VirtualRun& run) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const ServedRequest& r : run.requests) {
    rows.push_back({r.arrival_ms, r.first_ms, r.end_ms});
  }
  return rows;
}

StepCost step_cost(dai::App& app, const BatchingOptions& o) {
  StepCost cost = recorded_step_cost();
  if (o.cost == "measured") {
    LoadedModel model(o.model, app);
    app.print(model.description());
    cost = measure_step_cost(model.runner(), static_cast<int>(o.repeats));
  }
  app.print(fmt::format(
      "a step costs {:.1f} ms, {:.2f} for each token, {:.4f} for each token "
      "looked back at ({}; the line is at most {:.0f} % off)\n\n",
      cost.step_ms, cost.token_ms, cost.context_ms, o.cost,
      100 * cost.worst_error()));
  return cost;
}

int main(int argc, char** argv) {
  BatchingOptions o;
  const dai::AppSpec spec{
      .name = "ch06_continuous_batching",
      .shows = "static against continuous batching, on one trace of arrivals",
      .example =
          "scripts/book run ch06_continuous_batching -- --per-second 1.5",
      .declare = [&](dai::OptionSet& set) { o.declare(set); }};
  return dai::run_app(argc, argv, spec, [&](dai::App& app) {
    const StepCost cost = step_cost(app, o);
    const std::vector<TimedRequest> trace = arrivals_like_chats(
        o.requests, o.per_second, o.prompt, o.output, app.seed());
    dai::Table table({"batching", "tokens/s", "TTFT p50 s", "p99 s",
                      "TPOT p50 ms", "p99 ms", "all done s"});
    const auto row = [&](const std::string& name, const VirtualRun& run) {
      table.add_row({name, fmt::format("{:.1f}", run.tokens_per_s()),
                     fmt::format("{:.2f}", run.ttft_ms(50) / 1e3),
                     fmt::format("{:.2f}", run.ttft_ms(99) / 1e3),
                     fmt::format("{:.0f}", run.tpot_ms(50)),
                     fmt::format("{:.0f}", run.tpot_ms(99)),
                     fmt::format("{:.0f}", run.end_ms / 1e3)});
    };
    // The best of the losing side: every size of batch is tried.
    VirtualRun best;
    std::int64_t best_batch = 0;
    for (const std::int64_t batch : {1, 2, 4, 8, 16, 32, 64}) {
      const VirtualRun run = serve_statically(trace, batch, {}, cost);
      row(fmt::format("static, {}", batch), run);
      if (best_batch == 0 || run.ttft_ms(50) < best.ttft_ms(50)) {
        best = run;
        best_batch = batch;
      }
    }
    const VirtualRun run = serve_continuously(trace, {}, cost);
    row("continuous", run);
    app.print(table.to_string());
    app.print(fmt::format(
        "\n{} requests, {:.2f} a second; virtual time. Static does best with "
        "batches of {}: there half of all wait {:.1f} times as long for their "
        "first token.\n",
        o.requests, o.per_second, best_batch,
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
              run.ttft_ms(50) / best.ttft_ms(50), 0.5);
    app.check("tokens/s, best static / continuous",
              best.tokens_per_s() / run.tokens_per_s(), 1.02);
  });
}
