// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/profiled_step/profile_app_options.h"

#include "common/errors.h"

namespace dai::intro {

void ProfileAppOptions::declare(OptionSet& set) {
  set.add("--model", decoder.model, "named decoder configuration");
  set.add("--batch", decoder.batch, "sequences a step");
  set.add("--seq", decoder.seq, "tokens a sequence");
  set.add("--rung", decoder.rung, {"naive", "fused"},
          "plain operators, or one pass each");
  set.add("--steps", profile.steps, "steps to record");
  set.add("--warm-up", profile.warm_up, "steps before", 0);
  set.add("--rows", rows, "operators to print");
  set.add("--module", module, "a TorchScript file instead of a decoder");
  set.add("--input-shape", input_shape,
          "inputs of --module: 8x128:int64:50257,8x16");
  set.add("--device", device, {"auto", "cpu", "cuda"}, "where to run");
  const auto preset = [&](const char* name, const char* model,
                          std::int64_t batch, std::int64_t seq,
                          std::int64_t steps) {
    set.preset(name, [this, model, batch, seq, steps] {
      decoder.model = model;
      decoder.batch = batch;
      decoder.seq = seq;
      profile.steps = steps;
    });
  };
  preset("smoke", "nano-1m", 2, 64, 2);
  preset("laptop", "bench-9m", 8, 128, 5);
  preset("gpu24", "base-110m", 8, 1024, 10);
  preset("gpu80", "large-730m", 8, 2048, 10);
}

void ProfileAppOptions::check() const {
  if (module.empty() != input_shape.empty()) {
    throw UsageError("--module and --input-shape go together");
  }
}

PlanSetup ProfileAppOptions::memory() const {
  return {.config = decoder_config(decoder.model),
          .batch = decoder.batch,
          .seq = decoder.seq,
          .rung = rung_from_string(decoder.rung)};
}

}  // namespace dai::intro
