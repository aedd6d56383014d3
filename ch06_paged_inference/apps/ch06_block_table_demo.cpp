// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/explain/block_table_story.h"

#include <fmt/format.h>

#include "common/app.h"

using namespace dai::paged;

struct DemoOptions {
  LoadedModelOptions model;
  bool explain = false;
  std::int64_t blocks = 14, tokens = 10;

  void declare(dai::OptionSet& set) {
    set.add_flag("--explain", explain, "tell every step and every table");
    set.add("--blocks", blocks, "blocks in all; few: somebody is preempted", 8,
            1 << 20);
    set.add("--tokens", tokens, "tokens of an answer");
    set.add("--block-size", model.block_size, "tokens of a block", 1, 64);
    set.add("--step-tokens", model.step_tokens, "most tokens of a step");
    set.add("--model", model.model, "as ch06_generate's");
    set.add("--device", model.device, {"auto", "cpu", "cuda"},
            "where to compute");
    set.preset("smoke", [this] { tokens = 5; });
    set.preset("laptop", [] {});
    model.block_size = 4;
    model.step_tokens = 12;
  }
};

int main(int argc, char** argv) {
  DemoOptions options;
  const dai::AppSpec spec{
      .name = "ch06_block_table_demo",
      .shows = "block tables grow, are shared, copied and preempted",
      .example = "scripts/book run ch06_block_table_demo -- --explain",
      .declare = [&](dai::OptionSet& set) { options.declare(set); }};
  return dai::run_app(argc, argv, spec, [&](dai::App& app) {
    options.model.one_row = options.model.synchronous = true;
    options.model.kv_blocks = options.blocks;
    LoadedModel model(options.model, app);
    app.print(model.description() + "\n");
    const std::string common = "Once upon a time there was a small";
    const Story story = tell_block_tables(
        model,
        {{common + " dragon who", 2, options.tokens, 0},
         {common + " town near", 1, options.tokens, 1},
         {"The three primary colours are", 1, options.tokens, 3}},
        options.explain ? [&](std::string_view text) { app.print(text); }
                        : std::function<void(std::string_view)>());
    const EngineStats& s = story.stats;
    app.print(fmt::format(
        "{} answers in {} steps: {} tokens computed, {} blocks shared, {} "
        "copied on write, {} preemptions\n",
        story.answers, story.steps, s.computed_tokens, s.sharing.shared,
        s.sharing.copied, s.preemptions));
    app.metric("steps", static_cast<double>(story.steps));
    app.metric("computed_tokens", static_cast<double>(s.computed_tokens));
    app.metric("shared_blocks", static_cast<double>(s.sharing.shared));
    app.metric("copied_blocks", static_cast<double>(s.sharing.copied));
    app.metric("preemptions", static_cast<double>(s.preemptions));
    app.check("answers that are others alone",
              static_cast<double>(story.different), 0);
    app.check("max|log probability - without blocks|", story.off, 1e-3);
    app.check("answers missing", 4 - static_cast<double>(story.answers), 0);
    // With larger blocks there may be nothing to share; and where a prompt ends
    // with its last block, nobody writes into what is shared.
    if (options.model.block_size <= 4 && options.tokens > 1) {
      const bool copies = story.first_prompt % options.model.block_size != 0;
      app.check("nothing was shared or copied",
                s.sharing.shared == 0 || (copies && s.sharing.copied == 0), 0);
    }
    const EngineStats end = model.engine().stats();
    app.check("blocks still owned",
              static_cast<double>(end.blocks - end.blocks_free), 0);
  });
}
