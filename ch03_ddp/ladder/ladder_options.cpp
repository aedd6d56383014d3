// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/ladder/ladder_options.h"

#include <fmt/format.h>

namespace dai::ddp {

void LadderAppOptions::declare(OptionSet& set) {
  set.add("--model", model, "decoder: nano-1m, small-5m, bench-9m, ...");
  set.add("--steps", ladder.steps, "training steps, of each rung");
  set.add("--microbatches", ladder.microbatches,
          "microbatches a step, over all ranks; a multiple of their number");
  set.add("--microbatch-size", ladder.microbatch_size, "windows a microbatch");
  set.add("--window", window, "tokens a window");
  set.add("--lr", ladder.learning_rate, "peak of the learning rate");
  set.add("--exchange", ladder.sync.exchange, {"all_reduce", "canonical"},
          "canonical: sums that no layout changes, bit for bit");
  set.add("--bucket-mb", bucket_mb, "MiB that close a bucket");
  set.add("--first-bucket-mb", first_bucket_mb,
          "MiB that close the first one, of all rungs but reducer");
  set.add("--text", text,
          "UTF-8 file to learn from; without it the dictionary of dict-gcide");
  set.add("--text-bytes", text_bytes,
          "read no more of the text than that; 0: all of it", /*min=*/0,
          /*max=*/std::int64_t{1} << 40);
  add_distributed_options(set, distributed);
  const auto preset = [&](const char* name, const char* of, int steps,
                          int microbatches, int microbatch_size, int tokens,
                          double lr) {
    set.preset(name, [=, this] {
      model = of;
      window = tokens;
      ladder.steps = steps;
      ladder.microbatches = microbatches;
      ladder.microbatch_size = microbatch_size;
      ladder.learning_rate = lr;
      // Of models of 5 and 36 MB: several buckets, or nothing could overlap.
      if (std::string(name) == "smoke") {
        text_bytes = 1'000'000;
        bucket_mb = first_bucket_mb = 0.5;
      }
      if (std::string(name) == "laptop") bucket_mb = 4;
    });
  };
  preset("smoke", "nano-1m", 6, 12, 1, 64, 1e-2);
  preset("laptop", "bench-9m", 12, 12, 1, 128, 1e-3);
  preset("gpu24", "base-110m", 50, 12, 4, 1024, 6e-4);
  preset("gpu80", "large-730m", 50, 24, 4, 1024, 3e-4);
  preset("node8x2", "base-110m", 50, 48, 4, 1024, 6e-4);
}

std::string LadderAppOptions::to_string(std::uint64_t seed) const {
  return fmt::format(
      "model={} steps={} microbatches={} microbatch_size={} window={} lr={} "
      "seed={} text_bytes={} exchange={} bucket_mb={} first_bucket_mb={}",
      model, ladder.steps, ladder.microbatches, ladder.microbatch_size, window,
      ladder.learning_rate, seed, text_bytes, ladder.sync.exchange, bucket_mb,
      first_bucket_mb);
}

LadderOptions LadderAppOptions::options(std::uint64_t seed) const {
  LadderOptions options = ladder;
  options.decoder = intro::decoder_config(model);
  options.sync.caps = BucketCaps::of_mib(first_bucket_mb, bucket_mb);
  options.seed = seed;
  return options;
}

intro::TextCorpusOptions LadderAppOptions::corpus(std::uint64_t seed) const {
  return {.text = text,
          .text_bytes = text_bytes,
          .vocab_size = intro::decoder_config(model).vocab_size,
          .window = window,
          .seed = seed};
}

}  // namespace dai::ddp
