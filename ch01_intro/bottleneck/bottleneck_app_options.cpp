// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/bottleneck/bottleneck_app_options.h"

#include <fmt/format.h>

#include "ch01_intro/bottleneck/verdict.h"
#include "common/errors.h"

namespace dai::intro {

void BottleneckAppOptions::declare(OptionSet& set) {
  set.add("--decoder", job.decoder, "configuration of the decoder");
  set.add("--microbatches", job.microbatches,
          "microbatches a step, over all ranks; a multiple of their number");
  set.add("--samples", job.samples, "samples a microbatch");
  set.add("--tokens", job.window, "tokens (bytes) a sample");
  set.add("--input", job.input,
          "file or named pipe to read, {rank} in it becomes the rank");
  set.add("--warm-up", warm_up, "steps that nobody judges");
  set.add("--reference-steps", reference_steps,
          "then steps that count as undisturbed");
  set.add("--window", window, "then steps that are judged together");
  set.add("--windows", windows, "so many times, one verdict each");
  set.add("--reference", reference,
          "a file of --record: its reference, instead of steps of this run");
  set.add("--record", record, "file for the evidence, the last window's");
  add_distributed_options(set, distributed);
  set.preset("smoke", [this] {
    job.microbatches = 4;
    windows = 1;
  });
}

void BottleneckAppOptions::check() const {
  const std::int64_t least = VerdictRules{}.min_steps;
  if (window < least || reference_steps < least || windows < 1) {
    throw UsageError(fmt::format(
        "--windows {} of --window {} steps, --reference-steps {}: at least 1 "
        "window is expected, and {} steps in each",
        windows, window, reference_steps, least));
  }
}

}  // namespace dai::intro
