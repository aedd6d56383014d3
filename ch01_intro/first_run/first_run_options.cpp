// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/first_run/first_run_options.h"

#include <fmt/format.h>

namespace dai::intro {

void FirstRunAppOptions::declare(OptionSet& set) {
  set.add("--model", model, "decoder: nano-1m, small-5m, bench-9m, ...");
  set.add("--steps", run_.steps, "training steps");
  set.add("--microbatches", run_.microbatches,
          "microbatches a step, over all ranks; a multiple of their number");
  set.add("--microbatch-size", run_.microbatch_size, "windows a microbatch");
  set.add("--window", window, "tokens a window");
  set.add("--lr", run_.learning_rate, "peak of the learning rate");
  set.add("--reduction", reduction, {"canonical", "all_reduce"},
          "canonical: one rank's bits; all_reduce: naive_ddp, fewer bytes");
  set.add("--text", text,
          "UTF-8 file to learn from; without it the dictionary of dict-gcide");
  set.add("--text-bytes", text_bytes,
          "read no more of the text than that; 0: all of it", /*min=*/0,
          /*max=*/std::int64_t{1} << 40);
  add_distributed_options(set, distributed);
  // Microbatches divide by 12, so that 2, 3 and 4 ranks share them evenly; by
  // 8 and by 16 too where a node has that many devices.
  const auto preset = [&](const char* name, const char* of, int steps,
                          int microbatches, int microbatch_size, int tokens,
                          double lr) {
    set.preset(name, [=, this] {
      model = of;
      window = tokens;
      run_.steps = steps;
      run_.microbatches = microbatches;
      run_.microbatch_size = microbatch_size;
      run_.learning_rate = lr;
      const std::string preset_name = name;
      if (preset_name == "smoke") text_bytes = 1'000'000;
      // The canonical sum would gather 24 gradients of 2.9 GB on each rank.
      if (preset_name == "gpu80") reduction = "all_reduce";
    });
  };
  preset("smoke", "nano-1m", 8, 12, 1, 64, 1e-2);
  preset("laptop", "small-5m", 24, 12, 2, 128, 2e-3);
  preset("gpu24", "base-110m", 200, 12, 4, 1024, 6e-4);
  preset("gpu80", "large-730m", 200, 24, 4, 1024, 3e-4);
  preset("node8x2", "base-110m", 200, 48, 4, 1024, 6e-4);
}

std::string FirstRunAppOptions::to_string(std::uint64_t seed) const {
  return fmt::format(
      "model={} steps={} microbatches={} microbatch_size={} window={} lr={} "
      "seed={} text_bytes={} reduction={}",
      model, run_.steps, run_.microbatches, run_.microbatch_size, window,
      run_.learning_rate, seed, text_bytes, reduction);
}

FirstRunOptions FirstRunAppOptions::run(std::uint64_t seed) const {
  FirstRunOptions options = run_;
  options.decoder = decoder_config(model);
  options.seed = seed;
  return options;
}

TextCorpusOptions FirstRunAppOptions::corpus(std::uint64_t seed) const {
  return {.text = text,
          .text_bytes = text_bytes,
          .vocab_size = decoder_config(model).vocab_size,
          .window = window,
          .seed = seed};
}

Reduction FirstRunAppOptions::reduction_kind() const {
  return reduction == "canonical" ? Reduction::kCanonical
                                  : Reduction::kAllReduce;
}

}  // namespace dai::intro
