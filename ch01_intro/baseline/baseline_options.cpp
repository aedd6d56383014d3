// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/baseline/baseline_options.h"

#include <fmt/format.h>

#include "common/errors.h"

namespace dai::intro {

void BaselineAppOptions::declare(dai::OptionSet& set) {
  WarmupCosine& schedule = baseline.trainer.schedule;
  set.add("--model", model, "decoder: nano-1m, small-5m, bench-9m, ...");
  set.add("--batch", baseline.samples, "windows of a microbatch");
  set.add("--window", window, "tokens a window");
  set.add("--microbatches", baseline.microbatches, "microbatches a step");
  set.add("--steps", schedule.total_steps, "training steps");
  set.add("--untimed", baseline.untimed_steps, "first steps that are not timed",
          /*min=*/0);
  set.add("--lr", schedule.peak, "peak of the learning rate", /*min=*/1e-30);
  set.add("--warmup-steps", schedule.warmup_steps,
          "first steps, in which the learning rate rises", /*min=*/0);
  set.add("--spike-z", baseline.trainer.watch.spike_z,
          "skip updates whose loss or gradient norm lies that many deviations "
          "above the last 128; 0: only those that are not finite",
          /*min=*/0);
  set.add("--rung", rung, {"naive", "fused"},
          "plain operators, or one pass each");
  set.add("--precision", precision, {"fp32", "bf16"}, "of matrix products");
  set.add("--device", device, {"auto", "cpu", "cuda"}, "where to train");
  set.add("--text", text,
          "UTF-8 file to learn from; without it the dictionary of dict-gcide");
  set.add("--text-bytes", text_bytes,
          "read no more of the text than that; 0: all of it", /*min=*/0,
          /*max=*/std::int64_t{1} << 40);
  set.add("--validation-windows", baseline.validation_windows,
          "windows of the evaluation, a multiple of --batch; 0: none",
          /*min=*/0);
  set.add("--latency-samples", latency_samples,
          "forward passes timed at each batch");
  set.add("--peak-seconds", peak_seconds,
          "time to search the fastest matrix product", /*min=*/0.01);
  set.add_flag("--paced", paced,
               "train as many steps as each line on stdin says and print "
               "their times: for side-by-side measurements");
  set.add("--windows-out", windows_out,
          "write the windows of --steps steps in the order of training, int32, "
          "for another program to train on");
  const auto preset = [&](const char* name, const char* of, int batch,
                          int tokens, int steps, int warmup, double lr,
                          const char* dtype) {
    set.preset(name, [=, this, &schedule] {
      model = of;
      baseline.samples = batch;
      window = tokens;
      schedule = {.peak = lr, .warmup_steps = warmup, .total_steps = steps};
      precision = dtype;
      baseline.validation_windows = 8 * batch;
    });
  };
  preset("laptop", "bench-9m", 8, 128, 60, 10, 2e-3, "fp32");
  preset("gpu24", "base-110m", 16, 1024, 200, 40, 6e-4, "bf16");
  preset("gpu80", "large-730m", 16, 2048, 200, 40, 3e-4, "bf16");
  set.preset("smoke", [this, &schedule] {
    model = "nano-1m";
    baseline.samples = 4;
    window = 64;
    schedule = {.peak = 5e-3, .warmup_steps = 4, .total_steps = 24};
    baseline.validation_windows = 8;
    latency_samples = 10;
    peak_seconds = 0.2;
    text_bytes = 4'000'000;
  });
}

void BaselineAppOptions::check(const LaunchContext& launch) {
  if (launch.world_size > 1) {
    throw UsageError(fmt::format(
        "a baseline is one rank's, {} were started: -n 1", launch.world_size));
  }
  config();  // names the nearest model where there is none
  const WarmupCosine& schedule = baseline.trainer.schedule;
  if (schedule.warmup_steps > schedule.total_steps) {
    throw UsageError(fmt::format(
        "--steps {}: the learning rate rises for {} steps; --warmup-steps "
        "changes that",
        schedule.total_steps, schedule.warmup_steps));
  }
  if (baseline.untimed_steps >= schedule.total_steps) {
    throw UsageError(fmt::format(
        "--steps {}, of which the first {} are not timed: nothing is left to "
        "time; --untimed changes that",
        schedule.total_steps, baseline.untimed_steps));
  }
  if (baseline.validation_windows > baseline.samples &&
      baseline.validation_windows % baseline.samples != 0) {
    throw UsageError(fmt::format(
        "--validation-windows {}: a multiple of --batch {}, or less",
        baseline.validation_windows, baseline.samples));
  }
  baseline.trainer.precision = precision_from_string(precision);
}

const DecoderOps& BaselineAppOptions::ops() const {
  return decoder_ops(rung);
}

ExecutionChoices BaselineAppOptions::execution() const {
  return {.head_gradient_in_forward = rung == "fused"};
}

PlanSetup BaselineAppOptions::memory() const {
  return {.config = config(),
          .batch = baseline.samples,
          .seq = window,
          .rung = rung_from_string(rung),
          .bf16 = precision == "bf16"};
}

TextCorpusOptions BaselineAppOptions::corpus(std::uint64_t seed) const {
  return {.text = text,
          .text_bytes = text_bytes,
          .vocab_size = config().vocab_size,
          .window = window,
          .seed = seed};
}

std::vector<std::int64_t> BaselineAppOptions::batches() const {
  std::vector<std::int64_t> list;
  for (std::int64_t b = 1; b <= baseline.samples; b *= 2) list.push_back(b);
  return list;
}

LatencyOptions BaselineAppOptions::latency() const {
  return {.samples = latency_samples, .precision = baseline.trainer.precision};
}

MatmulPeakOptions BaselineAppOptions::peak(at::Device at) const {
  return {.device = at,
          .dtype = precision == "bf16" ? at::kBFloat16 : at::kFloat,
          .search = {.seconds = peak_seconds}};
}

std::string BaselineAppOptions::to_string() const {
  return fmt::format(
      "{} ({:.1f}M parameters, {}, {}), {} x {} x {} tokens", model,
      static_cast<double>(config().parameter_count()) / 1e6, rung, precision,
      baseline.microbatches, baseline.samples, window);
}

}  // namespace dai::intro
