// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/fragmentation/kv_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "ch06_paged_inference/fragmentation/decode_rate.h"
#include "ch06_paged_inference/generate/loaded_model.h"
#include "common/app.h"
#include "common/report.h"

using namespace dai::paged;

struct FragmentationOptions {
  LoadedModelOptions model;
  std::int64_t requests = 400, slots = 16384, max_length = 2048;
  std::int64_t block_size = 16, repeats = 5;
  double watermark = 0.05;

  void declare(dai::OptionSet& set) {
    set.add("--requests", requests, "requests of the trace");
    set.add("--slots", slots, "memory: tokens whose keys and values it holds");
    set.add("--max-length", max_length, "the longest a request may become", 2);
    set.add("--block-size", block_size, "tokens of a block", 1, 1 << 16);
    set.add("--watermark", watermark,
            "part of the blocks left free when a request is admitted; 0: more "
            "at a time, and more preemptions");
    set.add("--repeats", repeats, "decode steps timed at each batch");
    set.add("--model", model.model, "as ch06_generate's; its steps are timed");
    set.add("--device", model.device, {"auto", "cpu", "cuda"},
            "where to compute");
    set.preset("smoke", [this] { repeats = 1; });
    set.preset("laptop", [] {});
  }
};

int main(int argc, char** argv) {
  FragmentationOptions o;
  const dai::AppSpec spec{
      .name = "ch06_kv_fragmentation",
      .shows = "what paging saves of the KV cache, and what that is worth",
      .example = "scripts/book run ch06_kv_fragmentation -- --block-size 64",
      .declare = [&](dai::OptionSet& set) { o.declare(set); }};
  return dai::run_app(argc, argv, spec, [&](dai::App& app) {
    const std::vector<RequestLengths> trace =
        lengths_like_chats(o.requests, o.max_length, app.seed());
    const auto reserved = [&](Reservation how) {
      return serve_reserved(trace, o.slots, how, o.max_length);
    };
    const std::vector<std::pair<std::string, MemoryUse>> ways{
        {"max length", reserved(Reservation::kMax)},
        {"power of two", reserved(Reservation::kPow2)},
        {"oracle", reserved(Reservation::kOracle)},
        {"paged", serve_paged(trace, o.slots, o.block_size, o.watermark)}};
    const MemoryUse& max = ways[0].second;
    const MemoryUse& paged = ways[3].second;

    o.model.kv_blocks = 33 * 22;  // 33 sequences of 352 tokens
    LoadedModel model(o.model, app);
    app.print(model.description());
    const DecodeTimes times = measure_decode(model.runner(), {1, 8, 32}, 338,
                                             static_cast<int>(o.repeats));
    dai::Table table({"memory is given out by", "tokens %", "for later %",
                      "never used %", "free %", "batch", "most", "tokens/s"});
    nlohmann::ordered_json drawn;
    for (const auto& [name, use] : ways) {
      const auto percent = [&](double slots) {
        return 100 * slots / use.slots;
      };
      const double free = use.slots - use.tokens - use.later - use.never;
      table.add_row({name, fmt::format("{:.1f}", percent(use.tokens)),
                     fmt::format("{:.1f}", percent(use.later)),
                     fmt::format("{:.1f}", percent(use.never)),
                     fmt::format("{:.1f}", percent(free)),
                     fmt::format("{:.1f}", use.batch),
                     fmt::format("{}", use.most),
                     fmt::format("{:.0f}", times.tokens_per_s(use.batches))});
      drawn[name] = {{"tokens", percent(use.tokens)},
                     {"for later", percent(use.later)},
                     {"never used", percent(use.never)},
                     {"free", percent(free)}};
    }
    app.print(
        fmt::format("\n{} requests, {} slots, at most {} tokens each\n\n{}"
                    "\ndecode steps: {:.0f} ms alone, {:.0f} ms for 8, "
                    "{:.0f} ms for 32; {} preemptions when paged\n",
                    o.requests, o.slots, o.max_length, table.to_string(),
                    times.step_ms.at(1), times.step_ms.at(8),
                    times.step_ms.at(32), paged.preemptions));
    app.attach("kv_memory", drawn);
    app.metric("paged_waste_percent", paged.waste_percent());
    app.metric("max_length_waste_percent", max.waste_percent());
    app.metric("paged_batch", paged.batch);
    app.metric("max_length_batch", max.batch);
    app.metric("paged_tokens_per_s", times.tokens_per_s(paged.batches));
    app.metric("max_length_tokens_per_s", times.tokens_per_s(max.batches));
    // Half of a block for each request: larger blocks, more of it.
    const double blocks = std::max(1.0, static_cast<double>(o.block_size) / 16);
    app.check("percent of its slots that hold nothing, paged",
              paged.waste_percent(), std::min(4 * blocks, 100.0));
    if (o.block_size <= 64 && paged.most < o.requests) {  // memory decides
      app.check("twice the batch of max length / paged's",
                2 * max.batch / paged.batch, 1);
    }
  });
}
