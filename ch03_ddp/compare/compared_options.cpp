// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/compare/compared_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <sstream>
#include <utility>

#include "ch01_intro/first_run/same_tokens.h"
#include "common/allocator.h"
#include "common/errors.h"
#include "common/torch/device.h"
#include "common/torch/distributed_trace.h"

namespace dai::ddp {

void ComparedOptions::declare(OptionSet& set) {
  set.add("--model", model, "decoder: nano-1m, small-5m, bench-9m, ...");
  set.add("--steps", given.steps, "training steps, of each training");
  set.add("--microbatches", given.microbatches,
          "microbatches a step, over all ranks, a multiple of their number; 0: "
          "one a rank",
          /*min=*/0);
  set.add("--microbatch-size", given.microbatch_size, "windows a microbatch");
  set.add("--window", window, "tokens a window");
  set.add("--lr", given.learning_rate, "peak of the learning rate");
  set.add("--text", text,
          "UTF-8 file to learn from; without it the dictionary of dict-gcide");
  set.add("--text-bytes", text_bytes,
          "read no more of the text than that; 0: all of it", /*min=*/0,
          /*max=*/std::int64_t{1} << 40);
  add_distributed_options(set, distributed);
}

void ComparedOptions::settle(int ranks) {
  if (given.microbatches == 0) given.microbatches = ranks;
}

void ComparedOptions::set_sizes(const char* of, int steps, int microbatches,
                                int microbatch_size, int tokens,
                                double learning_rate) {
  model = of;
  window = tokens;
  given.steps = steps;
  given.microbatches = microbatches;
  given.microbatch_size = microbatch_size;
  given.learning_rate = learning_rate;
}

std::string ComparedOptions::to_string(std::uint64_t seed) const {
  return fmt::format(
      "model={} steps={} microbatches={} microbatch_size={} window={} lr={} "
      "seed={} text_bytes={}",
      model, given.steps, given.microbatches, given.microbatch_size, window,
      given.learning_rate, seed, text_bytes);
}

ComparedSizes ComparedOptions::sizes(std::uint64_t seed) const {
  ComparedSizes sizes = given;
  sizes.decoder = intro::decoder_config(model);
  sizes.seed = seed;
  return sizes;
}

intro::TextCorpusOptions ComparedOptions::corpus(std::uint64_t seed) const {
  return {.text = text,
          .text_bytes = text_bytes,
          .vocab_size = intro::decoder_config(model).vocab_size,
          .window = window,
          .seed = seed};
}

std::vector<std::string> names_in(const std::string& flag,
                                  const std::string& text) {
  std::vector<std::string> names;
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, ',');) {
    if (std::find(names.begin(), names.end(), word) != names.end()) {
      throw UsageError(fmt::format("{} {}: {} twice", flag, text, word));
    }
    names.push_back(word);
  }
  return names;
}

void check_validation_windows(std::int64_t windows,
                              std::int64_t microbatch_size, int ranks) {
  const std::int64_t share = microbatch_size * ranks;
  if (windows < share || windows % share != 0) {
    throw UsageError(fmt::format(
        "{} validation windows: a multiple of {} is expected, {} a microbatch "
        "on {} ranks",
        windows, share, microbatch_size, ranks));
  }
}

void require_held_back(const intro::TokenCorpus& corpus, std::int64_t windows) {
  const std::int64_t held_back =
      corpus.windows(intro::CorpusSplit::kValidation);
  if (windows > held_back) {
    throw UsageError(
        fmt::format("{} validation windows: this text has {} held back",
                    windows, held_back));
  }
}

Stage set_stage(App& app, const ComparedOptions& options,
                const std::string& app_name, const std::string& told,
                const std::function<void()>& check) {
  std::optional<intro::TokenCorpus> corpus;
  ProcessGroup group = ProcessGroup::connect(
      app.launch(), options.distributed,
      [&] {
        options.sizes(app.seed()).check(app.launch().world_size);
        check();
        corpus = intro::load_text_corpus(options.corpus(app.seed()),
                                         app.cache_dir());
      },
      told);
  intro::require_same_tokens(group, corpus->tokens());
  set_deterministic_threads();
  keep_freed_memory();
  if (app.tracing()) group.add_observer(make_trace_observer(app.trace()));
  app.print(fmt::format("{}: {} on {}\n{}\n\n", app_name, group.description(),
                        describe_device(group.device()), told));
  return {std::move(group), std::move(*corpus)};
}

}  // namespace dai::ddp
