// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/schedule_app/timed_trace_options.h"

#include <fmt/format.h>

namespace dai::paged {

void TimedTraceOptions::declare(OptionSet& set) {
  set.add("--requests", requests, "requests of the trace");
  set.add("--per-second", per_second, "of them arrive, on average", 1e-3);
  set.add("--prompt", prompt, "mean tokens of a prompt", 1, 4096);
  set.add("--output", output, "mean tokens of an answer", 1, 4096);
  set.add("--cost", cost, {"measured", "recorded"},
          "of a step: measured on this machine, or kept from another");
  set.add("--repeats", repeats, "steps timed of each shape");
  set.add("--model", model.model, "as ch06_generate's; its steps are timed");
  set.add("--device", model.device, {"auto", "cpu", "cuda"},
          "where to compute");
  set.preset("smoke", [this] { cost = "recorded"; });
  set.preset("laptop", [] {});
}

StepCost TimedTraceOptions::step_cost(App& app) const {
  StepCost found = recorded_step_cost();
  if (cost == "measured") {
    LoadedModel loaded(model, app);
    app.print(loaded.description());
    found = measure_step_cost(loaded.runner(), static_cast<int>(repeats));
  }
  app.print(fmt::format(
      "a step costs {:.1f} ms, {:.2f} for each token, {:.4f} for each token "
      "looked back at ({}; the line is at most {:.0f} % off)\n\n",
      found.step_ms, found.token_ms, found.context_ms, cost,
      100 * found.worst_error()));
  nlohmann::ordered_json steps = nlohmann::ordered_json::array();
  for (const MeasuredStep& step : found.from) {
    steps.push_back({step.tokens, step.context, step.ms});
  }
  app.attach("steps", steps);  // recorded_cost.json is made of this
  return found;
}

std::vector<TimedRequest> TimedTraceOptions::trace(std::uint64_t seed) const {
  return arrivals_like_chats(requests, per_second, prompt, output, seed);
}

}  // namespace dai::paged
