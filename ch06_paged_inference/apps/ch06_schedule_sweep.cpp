// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/schedule/virtual_run.h"

#include <fmt/format.h>

#include <algorithm>

#include "ch06_paged_inference/generate/loaded_model.h"
#include "common/app.h"
#include "common/report.h"

using namespace dai::paged;

struct SweepOptions {
  LoadedModelOptions model;
  std::int64_t requests = 150, prompt = 128, output = 32, repeats = 3;
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

struct Point {
  std::int64_t budget, sequences;
  std::string policy;
  VirtualRun run;
  bool frontier = false;
};

// Nobody is better in both.
void mark_frontier(std::vector<Point>& points) {
  for (Point& p : points) {
    p.frontier =
        std::none_of(points.begin(), points.end(), [&](const Point& q) {
          const double ttft = q.run.ttft_ms(99), tpot = q.run.tpot_ms(99);
          return ttft <= p.run.ttft_ms(99) && tpot <= p.run.tpot_ms(99) &&
                 (ttft < p.run.ttft_ms(99) || tpot < p.run.tpot_ms(99));
        });
  }
}

int main(int argc, char** argv) {
  SweepOptions o;
  const dai::AppSpec spec{
      .name = "ch06_schedule_sweep",
      .shows = "what the budget of a step, the batch and the policy decide",
      .example = "scripts/book run ch06_schedule_sweep -- --prompt 400",
      .declare = [&](dai::OptionSet& set) { o.declare(set); }};
  return dai::run_app(argc, argv, spec, [&](dai::App& app) {
    StepCost cost = recorded_step_cost();
    if (o.cost == "measured") {
      LoadedModel model(o.model, app);
      app.print(model.description());
      cost = measure_step_cost(model.runner(), static_cast<int>(o.repeats));
    }
    const std::vector<TimedRequest> trace = arrivals_like_chats(
        o.requests, o.per_second, o.prompt, o.output, app.seed());
    std::vector<Point> points;
    for (const std::int64_t budget : {32, 64, 128, 256, 1024}) {
      for (const std::int64_t sequences : {4, 16, 64}) {
        for (const char* policy : {"fcfs", "priority"}) {
          VirtualServer server;
          server.scheduler.max_step_tokens = budget;
          server.scheduler.max_sequences = sequences;
          server.policy = policy;
          points.push_back({budget, sequences, policy,
                            serve_continuously(trace, server, cost)});
        }
      }
    }
    mark_frontier(points);
    dai::Table table({"budget", "sequences", "policy", "TTFT p50 s", "p99 s",
                      "TPOT p50 ms", "p99 ms", "tokens/s", "longest step ms",
                      "frontier"});
    nlohmann::ordered_json drawn = nlohmann::ordered_json::array();
    std::int64_t on_frontier = 0;
    for (const Point& p : points) {
      const VirtualRun& run = p.run;
      table.add_row(
          {fmt::format("{}", p.budget), fmt::format("{}", p.sequences),
           p.policy, fmt::format("{:.2f}", run.ttft_ms(50) / 1e3),
           fmt::format("{:.2f}", run.ttft_ms(99) / 1e3),
           fmt::format("{:.0f}", run.tpot_ms(50)),
           fmt::format("{:.0f}", run.tpot_ms(99)),
           fmt::format("{:.1f}", run.tokens_per_s()),
           fmt::format("{:.0f}", run.longest_step_ms), p.frontier ? "*" : ""});
      drawn.push_back({{"budget", p.budget},
                       {"sequences", p.sequences},
                       {"policy", p.policy},
                       {"ttft_p99_ms", run.ttft_ms(99)},
                       {"tpot_p99_ms", run.tpot_ms(99)},
                       {"frontier", p.frontier}});
      on_frontier += p.frontier ? 1 : 0;
    }
    app.print(table.to_string());
    app.print(fmt::format(
        "\n{} requests, {:.2f} a second; virtual time, steps {}. * nobody has "
        "both a lower TTFT p99 and a lower TPOT p99.\n",
        o.requests, o.per_second, o.cost));
    app.attach("schedule_sweep", drawn);
    nlohmann::ordered_json steps = nlohmann::ordered_json::array();
    for (const MeasuredStep& step : cost.from) {
      steps.push_back({step.tokens, step.context, step.ms});
    }
    app.attach("steps", steps);  // recorded_cost.json is made of this
    app.metric("frontier_points", static_cast<double>(on_frontier));
    // What the budget is for: a small one bounds the step, a large one the
    // wait for the first token.
    const auto at = [&](std::int64_t budget) -> const VirtualRun& {
      return std::find_if(points.begin(), points.end(),
                          [&](const Point& p) {
                            return p.budget == budget && p.sequences == 64;
                          })
          ->run;
    };
    app.metric("longest_step_32_ms", at(32).longest_step_ms);
    app.metric("longest_step_1024_ms", at(1024).longest_step_ms);
    app.check("longest step, budget 32 / budget 1024",
              at(32).longest_step_ms / at(1024).longest_step_ms, 0.75);
    app.check("TPOT p99, budget 32 / budget 1024",
              at(32).tpot_ms(99) / at(1024).tpot_ms(99), 1);
    app.check(
        "requests not served",
        [&] {
          double missing = 0;
          for (const Point& p : points) {
            for (const ServedRequest& r : p.run.requests) {
              missing += r.end_ms > r.arrival_ms ? 0 : 1;
            }
            missing +=
                static_cast<double>(trace.size() - p.run.requests.size());
          }
          return missing;
        }(),
        0);
  });
}
