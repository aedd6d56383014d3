// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/baseline/baseline.h"

#include <fmt/format.h>

#include <iostream>

#include "ch01_intro/baseline/baseline_options.h"
#include "ch01_intro/baseline/forward_latency.h"
#include "ch01_intro/baseline/paced_steps.h"
#include "ch01_intro/baseline/reference_case.h"
#include "ch01_intro/baseline/utilization.h"
#include "ch01_intro/memory_plan/memory_fit.h"
#include "ch01_intro/roofline/matmul_peak.h"
#include "ch01_intro/tokenizer/text_corpus.h"
#include "common/app.h"
#include "common/control_group.h"
#include "common/progress.h"
#include "common/torch/device.h"

using namespace dai::intro;

void report_run(dai::App& app, const BaselineRun& run) {
  app.print("\n" + loss_table(run) + "\n" + breakdown_table(run));
  app.print(fmt::format(
      "{:.0f} tokens/s at the median step; validation loss {:.4f} before, "
      "{:.4f} after\n\n",
      run.tokens_per_s(), run.validation_before, run.validation_after));
  for (const auto& [name, value] : run.metrics()) app.metric(name, value);
  app.metric("skipped_updates", static_cast<double>(run.skipped_updates()));
}

void report_utilization(dai::App& app, const BaselineAppOptions& options,
                        const BaselineRun& run, at::Device device) {
  const MatmulPeak peak = achievable_matmul_peak(
      {.device = device,
       .dtype = options.baseline.trainer.precision == Precision::kBf16
                    ? at::kBFloat16
                    : at::kFloat,
       .search = {.seconds = options.peak_seconds}});
  const auto rows = utilization(options.config(), options.baseline.samples,
                                options.window, options.execution(),
                                run.tokens_per_s(), peak.best.flop_per_s());
  app.print(utilization_table(rows));
  app.print(
      fmt::format("100 % is {:.1f} GFLOP/s: {}, the best of {} matrix "
                  "products tried\n",
                  peak.best.flop_per_s() / 1e9, peak.best.shape.to_string(),
                  peak.tried.size()));
  app.metric("achievable_peak_gflop_per_s", peak.best.flop_per_s() / 1e9);
  for (const UtilizationRow& row : rows) {
    app.metric("mfu_" + row.definition.name + "_ratio", row.mfu);
  }
}

void prove_equal(dai::App& app, const ReferenceComparison& reference) {
  const std::string decoder =
      fmt::format("{} layers, {} heads over {}", reference.layers,
                  reference.heads, reference.kv_heads);
  app.print(fmt::format(
      "against PyTorch in Python, ten steps of {}: {:.6f} to {:.6f}, theirs "
      "{:.6f} to {:.6f}\n",
      decoder, reference.losses.front(), reference.losses.back(),
      reference.reference_losses.front(), reference.reference_losses.back()));
  app.check(decoder + ": max|loss - PyTorch's| / loss", reference.loss_error,
            1e-5);
  // Wider: AdamW divides by what is nearly zero, so that roundings of the first
  // steps are visible in the gradients of the last.
  app.check(decoder + ": max|gradient norm - PyTorch's| / norm",
            reference.norm_error, 1e-4);
  app.check(
      fmt::format("{}: max|gradient - PyTorch's| / max of its tensor ({})",
                  decoder, reference.worst_gradient),
      reference.gradient_error, 1e-5);
}

void prove(dai::App& app, const BaselineAppOptions& options,
           const BaselineRun& run,
           const std::vector<ReferenceComparison>& references) {
  app.print("\n");
  for (const ReferenceComparison& reference : references) {
    prove_equal(app, reference);
  }
  if (options.baseline.trainer.watch.spike_z == 0) {  // else it is a wish
    app.check("updates skipped", static_cast<double>(run.skipped_updates()), 0);
  }
  app.check("validation loss after / before",
            run.validation_after / run.validation_before, 0.95);
}

// What the bench of the chapter talks to; its proof is that it has trained.
void run_paced(dai::App& app, const Decoder& decoder, const TokenCorpus& corpus,
               const BaselineAppOptions& options, at::Device device) {
  const std::int64_t steps = serve_paced_steps(
      decoder, corpus, options.baseline, device, std::cin, std::cout);
  app.check("steps missing of the first", steps > 0 ? 0 : 1, 0);
}

void run(dai::App& app, BaselineAppOptions& options) {
  const at::Device device = dai::choose_device(options.device, app.launch());
  options.check(app.launch());
  if (device.is_cpu())
    check_fits(options.memory(), dai::memory_available_bytes());
  const TokenCorpus corpus =
      load_text_corpus(options.corpus(app.seed()), app.cache_dir());
  DecoderParts parts(
      options.config(),
      {.seed = app.seed(), .device = device, .ops = &options.ops()});
  const Decoder decoder(parts);
  app.print(fmt::format("ch01_train_baseline: {} on {}\n", options.to_string(),
                        dai::describe_device(device)));
  if (!options.windows_out.empty()) {
    write_windows(corpus, options.baseline, options.windows_out);
  }
  if (options.paced) return run_paced(app, decoder, corpus, options, device);

  dai::Progress progress("train",
                         options.baseline.trainer.schedule.total_steps);
  const BaselineRun run = train_baseline(
      decoder, corpus, options.baseline, device, [&](const StepResult& step) {
        progress.update(step.step + 1, fmt::format("loss {:.3f}", step.loss));
      });
  report_run(app, run);
  const auto latency = measure_forward_latency(
      decoder, corpus, options.batches(), options.latency(), device);
  app.print(latency_table(latency) + "\n");
  for (const LatencyRow& row : latency) {
    app.metric(fmt::format("forward_batch{}_p50_ms", row.batch), row.p50_ms);
    app.metric(fmt::format("forward_batch{}_p99_ms", row.batch), row.p99_ms);
  }
  report_utilization(app, options, run, device);
  prove(app, options, run, compare_with_reference(options.ops(), device));
}

int main(int argc, char** argv) {
  BaselineAppOptions options;
  const dai::AppSpec spec{
      .name = "ch01_train_baseline",
      .shows = "what one device does in a training step, and how fast",
      .example = "scripts/book run ch01_train_baseline -- --model bench-9m",
      .declare = [&](dai::OptionSet& set) { options.declare(set); }};
  return dai::run_app(argc, argv, spec,
                      [&](dai::App& app) { run(app, options); });
}
