// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/schedule/schedule_sweep.h"

#include <fmt/format.h>

#include <algorithm>

#include "ch06_paged_inference/schedule_app/timed_trace_options.h"
#include "common/app.h"
#include "common/report.h"

using namespace dai::paged;

int main(int argc, char** argv) {
  TimedTraceOptions o{
      .requests = 150, .prompt = 128, .output = 32, .per_second = 2};
  const dai::AppSpec spec{
      .name = "ch06_schedule_sweep",
      .shows = "what the budget of a step, the batch and the policy decide",
      .example = "scripts/book run ch06_schedule_sweep -- --prompt 400",
      .declare = [&](dai::OptionSet& set) { o.declare(set); }};
  return dai::run_app(argc, argv, spec, [&](dai::App& app) {
    const StepCost cost = o.step_cost(app);
    const std::vector<TimedRequest> trace = o.trace(app.seed());
    const std::vector<SweepPoint> points =
        sweep_schedules(trace, SweepGrid{}, cost);
    dai::Table table({"budget", "sequences", "policy", "TTFT p50 s", "p99 s",
                      "TPOT p50 ms", "p99 ms", "tokens/s", "longest step ms",
                      "frontier"});
    nlohmann::ordered_json drawn = nlohmann::ordered_json::array();
    std::int64_t on_frontier = 0;
    for (const SweepPoint& p : points) {
      const ServedTrace& run = p.run;
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
        "\n{} requests in {:.0f} s; virtual time, steps {}. * nobody has both "
        "a lower TTFT p99 and a lower TPOT p99.\n",
        trace.size(), trace.back().arrival_ms / 1e3, o.cost));
    app.attach("schedule_sweep", drawn);
    app.metric("frontier_points", static_cast<double>(on_frontier));
    // What the budget is for: a small one bounds the step, a large one the
    // wait for the first token.
    const auto at = [&](std::int64_t budget) -> const ServedTrace& {
      return std::find_if(points.begin(), points.end(),
                          [&](const SweepPoint& p) {
                            return p.budget == budget && p.sequences == 64;
                          })
          ->run;
    };
    app.metric("longest_step_32_ms", at(32).longest_step_ms);
    app.metric("longest_step_1024_ms", at(1024).longest_step_ms);
    const auto longest = std::max_element(
        trace.begin(), trace.end(),
        [](const auto& a, const auto& b) { return a.prompt < b.prompt; });
    if (longest->prompt < 128) return;  // no budget has anything to bound
    app.check("longest step, budget 32 / budget 1024",
              at(32).longest_step_ms / at(1024).longest_step_ms, 0.75);
    app.check("TPOT p99, budget 32 / budget 1024",
              at(32).tpot_ms(99) / at(1024).tpot_ms(99), 1.1);
  });
}
