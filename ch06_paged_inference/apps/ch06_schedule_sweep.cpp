// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/schedule/virtual_run.h"

#include <fmt/format.h>

#include <algorithm>

#include "ch06_paged_inference/schedule_app/timed_trace_options.h"
#include "common/app.h"
#include "common/report.h"

using namespace dai::paged;

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
  TimedTraceOptions o{.requests = 150, .prompt = 128, .output = 32};
  const dai::AppSpec spec{
      .name = "ch06_schedule_sweep",
      .shows = "what the budget of a step, the batch and the policy decide",
      .example = "scripts/book run ch06_schedule_sweep -- --prompt 400",
      .declare = [&](dai::OptionSet& set) { o.declare(set); }};
  return dai::run_app(argc, argv, spec, [&](dai::App& app) {
    const StepCost cost = o.step_cost(app);
    const std::vector<TimedRequest> trace = o.trace(app.seed());
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
