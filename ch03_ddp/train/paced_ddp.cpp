// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/train/paced_ddp.h"

#include <ATen/ops/full.h>
#include <fmt/format.h>

#include <istream>
#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>
#include <string>

#include "ch01_intro/baseline/paced_steps.h"
#include "ch01_intro/decoder/decoder.h"
#include "ch01_intro/trainer/language_task.h"
#include "ch03_ddp/doctor/watched_training.h"
#include "common/errors.h"
#include "common/timer.h"
#include "common/torch/process_group.h"

namespace dai::ddp {
namespace {

constexpr std::int64_t kEnd = 0, kNoNumber = -1;

std::int64_t number_in(const std::string& line) {
  std::size_t used = 0;
  try {
    const std::int64_t steps = std::stoll(line, &used);
    if (steps >= 1 && used == line.size()) return steps;
  } catch (const std::exception&) {
  }
  return kNoNumber;
}

// What rank 0 has been asked for.
std::int64_t steps_asked_for(ProcessGroup& group, std::istream& in) {
  std::int64_t steps = kEnd;
  std::string line;
  if (group.rank() == 0 && std::getline(in, line)) steps = number_in(line);
  at::Tensor told =
      at::full({1}, steps, at::TensorOptions(group.device()).dtype(at::kLong));
  group.broadcast(told);
  steps = told.item<std::int64_t>();
  if (steps == kNoNumber) {
    throw UsageError("--paced: a number of steps, 1 or more, a line");
  }
  return steps;
}

}  // namespace

std::int64_t serve_paced_ddp(ProcessGroup& group,
                             const intro::TokenCorpus& corpus,
                             const TrainOptions& options, std::istream& in,
                             std::ostream& out) {
  const at::Device device = group.device();
  intro::DecoderParts parts(
      options.decoder,
      {.seed = options.seed, .device = device, .ops = options.ops});
  const intro::Decoder decoder(parts);
  intro::TrainerOptions trainer_options = options.trainer;
  trainer_options.schedule = {.peak = options.trainer.schedule.peak,
                              .total_steps = 1,
                              .floor_fraction = 1};
  intro::LanguageTask task(decoder, corpus,
                           {.microbatches = trainer_options.microbatches,
                            .samples = options.microbatch_size},
                           device);
  const auto sync =
      make_sync(options.sync, options.exchange, decoder.parameters(),
                trainer_options.microbatches, group);
  intro::WholeParameters view(decoder.parameters());
  Watch* const watch = options.watch;
  std::optional<WatchedTask> watched_task;
  std::optional<WatchedSync> watched_sync;
  if (watch) {
    watched_task.emplace(task, *watch, decoder.parameters());
    watched_sync.emplace(*sync, *watch);
  }
  intro::Trainer trainer(
      watch ? static_cast<intro::TrainingTask&>(*watched_task) : task,
      watch ? static_cast<intro::GradientSync&>(*watched_sync) : *sync, view,
      &group, trainer_options, device);
  const bool speaks = group.rank() == 0;
  const intro::DecoderConfig& config = decoder.config();
  if (speaks) {
    const nlohmann::ordered_json sizes = {
        {"vocab_size", config.vocab_size}, {"hidden", config.hidden},
        {"layers", config.layers},         {"heads", config.heads},
        {"kv_heads", config.kv_heads},     {"ffn", config.ffn}};
    out << nlohmann::ordered_json{{"decoder", sizes}}.dump() << std::endl;
  }
  const auto asked = [&] {
    if (watch) watch->enter("paused");
    return steps_asked_for(group, in);
  };
  while (const std::int64_t steps = asked()) {
    nlohmann::json answer;
    for (std::int64_t i = 0; i < steps; ++i) {
      const WallTimer wall;
      answer["loss"] = trainer.step().loss;
      answer["step_ms"].push_back(wall.ms());
    }
    answer["peak_rss_bytes"] = intro::peak_rss_bytes();
    if (speaks) out << answer.dump() << std::endl;
  }
  return trainer.steps_done();
}

}  // namespace dai::ddp
