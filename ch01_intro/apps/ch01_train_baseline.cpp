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
#include "ch01_intro/tokenizer/text_corpus.h"
#include "common/app.h"
#include "common/control_group.h"
#include "common/progress.h"
#include "common/torch/device.h"

using namespace dai::intro;

using Metrics = std::vector<std::pair<std::string, double>>;

void report(dai::App& app, const std::string& text, const Metrics& metrics) {
  app.print(text + "\n");
  for (const auto& [name, value] : metrics) app.metric(name, value);
}

void prove_equal(dai::App& app, const ReferenceComparison& reference) {
  const std::string decoder = reference.decoder();
  app.print(reference.to_string());
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

BaselineRun train(const Decoder& decoder, const TokenCorpus& corpus,
                  const BaselineOptions& options, at::Device device) {
  dai::Progress progress("train", options.trainer.schedule.total_steps);
  return train_baseline(
      decoder, corpus, options, device, [&](const StepResult& step) {
        progress.update(step.step + 1, fmt::format("loss {:.3f}", step.loss));
      });
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

  const BaselineRun run = train(decoder, corpus, options.baseline, device);
  report(app, "\n" + run.to_string(), run.metrics());
  const auto latency = measure_forward_latency(
      decoder, corpus, options.batches(), options.latency(), device);
  report(app, latency_table(latency), latency_metrics(latency));
  const Utilization used =
      utilization(options.config(), options.baseline.samples, options.window,
                  options.execution(), run.tokens_per_s(),
                  achievable_matmul_peak(options.peak(device)));
  report(app, used.to_string(), used.metrics());
  for (const ReferenceComparison& reference :
       compare_with_reference(options.ops(), device)) {
    prove_equal(app, reference);
  }
  if (options.baseline.trainer.watch.spike_z == 0) {  // else it is a wish
    app.check("updates skipped", static_cast<double>(run.skipped_updates()), 0);
  }
  if (options.baseline.validation_windows > 0) {
    app.check("validation loss after / before",
              run.validation_after / run.validation_before, 0.95);
  }
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
