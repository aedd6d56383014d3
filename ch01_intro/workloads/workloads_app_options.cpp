// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/workloads/workloads_app_options.h"

namespace dai::intro {

void WorkloadsAppOptions::declare(OptionSet& set) {
  set.add("--model", model, "decoder: nano-1m, bench-9m, ...");
  set.add("--batch", workloads.batch, "sequences of a training step");
  set.add("--seq", workloads.seq,
          "tokens of each, of a prompt, and of decode's context");
  set.add("--rung", rung, {"naive", "fused"},
          "plain operators, or one pass each");
  set.add("--repetitions", workloads.repetitions, "of each measurement");
  set.add("--device", device, {"auto", "cpu", "cuda"}, "where they run");
  set.add("--peak-seconds", roofs.search.seconds,
          "to search the fastest matrix product, for each dtype");
  set.add("--record", record, "write this machine's measurement there");
  set.add("--recorded", recorded,
          "the measurement that --smoke judges; left out: the committed one");
  const auto gpu = [this](const char* of) {
    return [this, of] {
      model = of;
      workloads.seq = 512;
      workloads.serve = {1, 4, 16, 64, 128};
      roofs.search.largest = 16384;
    };
  };
  set.preset("gpu24", gpu("base-110m"));
  set.preset("gpu80", gpu("large-730m"));
  set.preset("smoke", [this] {
    model = "nano-1m";
    workloads.batch = 2;
    workloads.seq = 32;
    workloads.serve = {1, 4};
    workloads.repetitions = 2;
    workloads.decode_steps = 4;
    roofs.search.largest = 512;
    roofs.search.seconds = 0.2;
    roofs.bandwidth_seconds = 0.01;
    roofs.memory_bytes = 64 << 20;
  });
}

PlanSetup WorkloadsAppOptions::training() const {
  return {.config = decoder_config(model),
          .batch = workloads.batch,
          .seq = workloads.seq,
          .rung = rung_from_string(rung)};
}

void WorkloadsAppOptions::resolve(at::Device on, std::uint64_t seed) {
  workloads.config = decoder_config(model);
  workloads.seed = seed;
  workloads.ops = &decoder_ops(rung);
  roofs.device = on;
}

}  // namespace dai::intro
