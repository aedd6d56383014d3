// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/schedule_app/timed_trace_options.h"

#include <fmt/format.h>

#include "ch06_paged_inference/schedule_app/real_run.h"

namespace dai::paged {

void TimedTraceOptions::declare(OptionSet& set) {
  set.add("--requests", requests, "requests of the trace");
  set.add("--per-second", per_second, "of them arrive, on average", 1e-3);
  set.add("--prompt", prompt, "mean tokens of a prompt", 1, 4096);
  set.add("--output", output, "mean tokens of an answer", 1, 4096);
  set.add("--arrivals", trace_file,
          "file of lines \"arrival_ms prompt_tokens answer_tokens\", in the "
          "order of arrival, instead of a trace that is made up");
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
  StepCost found;
  if (cost == "measured") {
    LoadedModel loaded(model, app);
    app.print(loaded.description());
    found = measure_step_cost(loaded.runner(), static_cast<int>(repeats));
  } else {
    found = recorded_step_cost();
  }
  const auto prompt = [&](double count, double position) {
    StepSize size;
    size.add(count, position);
    return found.of(size);
  };
  app.print(fmt::format(
      "a step of 1 token takes {:.0f} ms, of 16 {:.0f}, of 128 {:.0f}, at the "
      "end of an 8k prompt {:.0f} ({}; of steps held out the forecast is at "
      "most {:.0f} % off)\n\n",
      prompt(1, 0), prompt(16, 0), prompt(128, 0), prompt(128, 8064), cost,
      100 * found.worst_error()));
  const auto columns = [](const std::vector<MeasuredStep>& steps) {
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const MeasuredStep& step : steps) {
      rows.push_back(
          {step.size.tokens, step.size.context, step.size.pairs, step.ms});
    }
    return rows;
  };
  app.attach("step_cost", {{"knots", columns(found.knots)},
                           {"context_ms", found.context_ms},
                           {"pair_ms", found.pair_ms},
                           {"held_out", columns(found.held_out)}});
  return found;
}

std::vector<TimedRequest> TimedTraceOptions::trace(std::uint64_t seed) const {
  return trace_file.empty()
             ? arrivals_like_chats(requests, per_second, prompt, output, seed)
             : read_trace(trace_file);
}

VirtualServer TimedTraceOptions::server(const StepCost& cost) const {
  VirtualServer server;
  server.scheduler.max_step_tokens = model.step_tokens;
  server.scheduler.context_per_token = cost.context_per_token();
  return server;
}

ServedTrace TimedTraceOptions::serve_really(
    App& app, const std::vector<TimedRequest>& trace, std::int64_t batch,
    std::vector<double>* step_ms) const {
  LoadedModelOptions options = model;
  options.no_prefix_cache = true;
  if (batch > 0) options.step_tokens = 1 << 20;  // prompts are not cut up
  LoadedModel loaded(options, app);
  return paged::serve_really(trace, loaded.engine(),
                             loaded.runner().vocab_size(), batch, step_ms);
}

}  // namespace dai::paged
