// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/train/train_run.h"

#include <fmt/format.h>

#include <optional>

#include "ch01_intro/decoder/decoder.h"
#include "ch01_intro/microbatches.h"
#include "ch01_intro/parameter_bits.h"
#include "ch01_intro/statistics/statistics.h"
#include "ch01_intro/trainer/language_task.h"
#include "ch03_ddp/compare/agreement.h"
#include "ch03_ddp/compare/compared_options.h"
#include "ch03_ddp/doctor/watched_training.h"
#include "ch03_ddp/ladder/timed_sync.h"
#include "ch03_ddp/precision/scaled_training.h"
#include "ch03_ddp/train/bigram.h"
#include "ch03_ddp/train/fashion_task.h"
#include "common/errors.h"
#include "common/fnv1a.h"
#include "common/report.h"
#include "common/safetensors.h"
#include "common/timer.h"
#include "common/torch/process_group.h"

namespace dai::ddp {
namespace {

using intro::StepResult;

void save_weights(const std::string& path,
                  const std::vector<NamedParameter>& parameters) {
  std::vector<at::Tensor> alive;
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : parameters) {
    alive.push_back(tensor.detach().cpu().contiguous());
    const at::Tensor& cpu = alive.back();
    tensors.push_back(
        {name,
         Dtype::F32,
         cpu.sizes().vec(),
         {static_cast<const std::byte*>(cpu.const_data_ptr()), cpu.nbytes()}});
  }
  save_safetensors(path, tensors);
}

// 0 where a checkpoint has left nothing to do.
double median_of(const std::vector<double>& values) {
  return values.empty() ? 0 : intro::median(values);
}

TrainRun train(ProcessGroup& group, intro::TrainingTask& task,
               const std::vector<NamedParameter>& parameters,
               const TrainOptions& options, const AfterStep& after_step,
               Trace* trace) {
  const std::int64_t microbatches = options.trainer.microbatches;
  TimedSync timed(parameters, group, [&] {
    return make_sync(options.sync, options.exchange, parameters, microbatches,
                     group);
  });
  // float16 alone needs it; else it does nothing.
  const bool scales = options.trainer.precision == intro::Precision::kFp16;
  GradScaler scaler({.enabled = scales}, &group, group.device());
  ScaledTask scaled_task(task, scaler);
  ScaledSync scaled_sync(timed, scaler, parameters);
  intro::WholeParameters view(parameters);
  intro::TrainingTask* its_task = scales ? &scaled_task : &task;
  intro::GradientSync* its_sync = &timed;
  if (scales) its_sync = &scaled_sync;
  std::optional<WatchedTask> watched_task;
  std::optional<WatchedSync> watched_sync;
  if (options.watch) {
    its_task = &watched_task.emplace(*its_task, *options.watch, parameters);
    its_sync = &watched_sync.emplace(*its_sync, *options.watch);
  }
  intro::Trainer trainer(*its_task, *its_sync, view, &group, options.trainer,
                         group.device(), /*ledger=*/nullptr, trace);
  TrainingState state(parameters, trainer, scales ? &scaler : nullptr,
                      options.checkpoints.config);
  std::optional<RunCheckpoints> checkpoints;
  if (!options.checkpoints.folder.empty()) {
    checkpoints.emplace(group, trainer, options.checkpoints, state);
  }
  TrainRun run;
  std::vector<double> step_ms, backward_ms, exposed_ms, wire_ms, hidden;
  const WallTimer timer;
  while (trainer.steps_done() < options.trainer.schedule.total_steps) {
    const StepResult result = trainer.step();
    state.saw(result);
    const StepTimeline& line = timed.timeline();
    step_ms.push_back(intro::total_ms(result.ms));
    backward_ms.push_back(line.backward_ms());
    exposed_ms.push_back(line.exposed_ms());
    wire_ms.push_back(line.wire_ms());
    hidden.push_back(line.hidden());
    run.wire_bytes = line.wire_bytes();
    if (after_step) after_step(result, line.exposed_ms());
    if (options.watch) options.watch->enter("save");
    if (checkpoints && !checkpoints->after_step(result)) break;
  }
  run.seconds = timer.seconds();
  if (options.watch) {
    options.watch->end_steps();
    options.watch->enter("save");
  }
  if (checkpoints) {
    checkpoints->finish();
    run.checkpoints = checkpoints->report();
  }
  run.losses = state.losses();
  run.gradient_norms = state.gradient_norms();
  for (std::int64_t step = 0; step < state.steps(); ++step) {
    run.learning_rates.push_back(
        intro::learning_rate(options.trainer.schedule, step));
  }
  run.samples_per_s = static_cast<double>(std::ssize(step_ms) * microbatches *
                                          options.microbatch_size) /
                      run.seconds;
  run.skipped_updates = trainer.skipped_updates();
  run.scaler_skips = scaled_sync.skipped();
  run.step_ms = median_of(step_ms);
  run.backward_ms = median_of(backward_ms);
  run.exposed_ms = median_of(exposed_ms);
  run.wire_ms = median_of(wire_ms);
  run.hidden = median_of(hidden);
  run.bits_off_rank0 =
      most_bits_off_rank0(group, intro::flat_parameters(parameters));
  if (!options.save.empty() && group.rank() == 0) {
    save_weights(options.save, parameters);
  }
  if (options.watch) options.watch->enter("end");
  return run;
}

}  // namespace

void TrainOptions::check(int ranks) const {
  intro::microbatches_of_rank(trainer.microbatches, 0, ranks);
  trainer.check();
  exchange.check(sync);
  if (trainer.precision == intro::Precision::kFp16 &&
      std::string(ops->name) == "fused") {
    throw UsageError(
        "precision fp16: the fused operators refuse it, take --rung naive");
  }
  if (validation_windows != 0) {  // pictures have none
    check_validation_windows(validation_windows, microbatch_size, ranks);
  }
}

TrainRun train_decoder(ProcessGroup& group, const intro::TokenCorpus& corpus,
                       const TrainOptions& options, const AfterStep& after_step,
                       Trace* trace) {
  require_held_back(corpus, options.validation_windows);
  const at::Device device = group.device();
  intro::DecoderParts parts(
      options.decoder,
      {.seed = options.seed, .device = device, .ops = options.ops});
  const intro::Decoder decoder(parts);
  intro::LanguageTask task(decoder, corpus,
                           {.microbatches = options.trainer.microbatches,
                            .samples = options.microbatch_size},
                           device);
  TrainOptions named = options;
  const std::vector<std::int32_t>& tokens = corpus.tokens();
  named.checkpoints.config["tokens"] = fmt::format(
      "{:016x}", fnv1a({reinterpret_cast<const char*>(tokens.data()),
                        tokens.size() * sizeof tokens[0]}));
  TrainRun run =
      train(group, task, decoder.parameters(), named, after_step, trace);
  if (!run.checkpoints.stopped_by.empty()) return run;
  const std::int64_t held_back =
      options.validation_windows / options.microbatch_size;
  intro::LanguageTask validation(decoder, corpus,
                                 {.microbatches = held_back,
                                  .samples = options.microbatch_size,
                                  .split = intro::CorpusSplit::kValidation},
                                 device);
  run.validation_loss = intro::evaluate(validation, held_back, &group,
                                        options.trainer.precision, device);
  run.bigram_loss = bigram_loss(corpus, options.validation_windows);
  return run;
}

TrainRun train_fashion(ProcessGroup& group, const intro::FashionMnist& train_on,
                       const intro::FashionMnist& test,
                       const TrainOptions& options, const AfterStep& after_step,
                       Trace* trace) {
  const FashionCnn cnn(options.seed, group.device());
  FashionTask task(cnn, train_on,
                   {.microbatches = options.trainer.microbatches,
                    .samples = options.microbatch_size,
                    .seed = options.seed},
                   group.device());
  TrainRun run =
      train(group, task, cnn.parameters(), options, after_step, trace);
  if (!run.checkpoints.stopped_by.empty()) return run;
  run.test_accuracy = accuracy(cnn, test, &group, group.device());
  return run;
}

std::string TrainRun::to_string() const {
  constexpr std::size_t kRows = 8;
  Table table({"step", "loss", "gradient norm", "learning rate"});
  const std::size_t last = losses.size() - 1;
  std::size_t shown = losses.size();  // none so far
  for (std::size_t row = 0; row < kRows; ++row) {
    const std::size_t step = last * row / (kRows - 1);
    if (step == shown) continue;
    shown = step;
    table.add_row({fmt::format("{}", step + 1),
                   fmt::format("{:.4f}", losses[step]),
                   fmt::format("{:.3f}", gradient_norms[step]),
                   fmt::format("{:.2e}", learning_rates[step])});
  }
  std::string text = table.to_string() + checkpoints.to_string();
  text += fmt::format(
      "{:.1f} s, {:.0f} samples/s; a step {:.1f} ms, of which {:.2f} ms "
      "exposed\nhanded to collectives: {:.2f} MB a step, on their way for "
      "{:.2f} ms, {:.0f} % of it behind "
      "backward\n",
      seconds, samples_per_s, step_ms, exposed_ms, wire_bytes / 1e6, wire_ms,
      100 * hidden);
  if (!checkpoints.stopped_by.empty()) return text;
  if (bigram_loss > 0) {
    text += fmt::format(
        "on text held back: {:.4f} nats a token; a bigram table: {:.4f}\n",
        validation_loss, bigram_loss);
  } else {
    text += fmt::format("test pictures named rightly: {:.2f} %\n",
                        100 * test_accuracy);
  }
  return text;
}

std::vector<std::pair<std::string, double>> TrainRun::metrics() const {
  std::vector<std::pair<std::string, double>> all{
      {"train_seconds", seconds},
      {"samples_per_s", samples_per_s},
      {"step_ms", step_ms},
      {"backward_ms", backward_ms},
      {"exposed_ms", exposed_ms},
      {"wire_ms", wire_ms},
      {"hidden_percent", 100 * hidden},
      {"wire_bytes", static_cast<double>(wire_bytes)},
      {"skipped_updates", static_cast<double>(skipped_updates)},
      {"last_loss_nats", losses.back()}};
  if (!checkpoints.stall_ms.empty()) {
    all.emplace_back("checkpoints_saved", checkpoints.saved);
    all.emplace_back("checkpoints_failed", checkpoints.failed);
    all.emplace_back("checkpoint_stall_ms",
                     intro::median(checkpoints.stall_ms));
  }
  all.emplace_back("resumed_at_steps", checkpoints.resumed_at);
  if (bigram_loss > 0) {
    all.emplace_back("validation_loss_nats", validation_loss);
    all.emplace_back("bigram_loss_nats", bigram_loss);
  } else {
    all.emplace_back("test_accuracy_percent", 100 * test_accuracy);
  }
  return all;
}

}  // namespace dai::ddp
