// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/checkpoint/run_checkpoints.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <exception>
#include <optional>
#include <string>
#include <utility>

#include "ch01_intro/statistics/statistics.h"
#include "common/errors.h"
#include "common/torch/process_group.h"

namespace dai::ddp {

void CheckpointOptions::check() const {
  if (every < 0) {
    throw UsageError(fmt::format("a checkpoint every {} steps", every));
  }
  saver.keep.check();
}

std::string CheckpointReport::to_string() const {
  std::string text;
  for (const std::string& one : damaged) {
    text += "passed over: " + one + "\n";
  }
  if (!resumed_from.empty()) {
    text +=
        fmt::format("went on from step {} ({})\n", resumed_at, resumed_from);
  }
  if (!stall_ms.empty()) {
    text += fmt::format(
        "checkpoints: {} saved, {} failed; a save held training up for {:.1f} "
        "ms\n",
        saved, failed, intro::median(stall_ms));
  }
  if (!stopped_by.empty()) {
    text += fmt::format(
        "stopped by {}, {}\n", stopped_by,
        last_step == steps ? "with a checkpoint to go on from"
        : last_step < 0
            ? "and there is no checkpoint"
            : fmt::format("the last checkpoint is of step {}", last_step));
  }
  return text;
}

RunCheckpoints::RunCheckpoints(ProcessGroup& group, intro::Trainer& trainer,
                               const CheckpointOptions& options,
                               TrainingState& state)
    : group_(group),
      trainer_(trainer),
      options_((options.check(), options)),
      state_(state),
      store_(options.folder),
      saver_(group, store_, options.saver) {
  resume();
  trainer_.set_stop_wish([this] { return stop_.received() != 0; });
}

RunCheckpoints::~RunCheckpoints() {
  trainer_.set_stop_wish(nullptr);
}

// Rank 0 looks and all others open what it has found.
void RunCheckpoints::resume() {
  FoundCheckpoint found;
  if (group_.rank() == 0) found = store_.find_newest();
  for (const auto& [path, reason] : found.damaged) {
    report_.damaged.push_back(fmt::format("{}: {}", path.string(), reason));
    spdlog::warn("checkpoint {} is damaged and passed over: {}", path.string(),
                 reason);
  }
  const std::string path = group_.gather_strings(found.path.string())[0];
  if (path.empty()) return;
  std::optional<Checkpoint> checkpoint;
  std::string problem;
  try {
    checkpoint.emplace(path);
  } catch (const std::exception& error) {
    problem = fmt::format("rank {}: {}", group_.rank(), error.what());
  }
  for (const std::string& one : group_.gather_strings(problem)) {
    if (!one.empty()) {
      throw UsageError(one + " (every rank must see the checkpoints' folder)");
    }
  }
  state_.restore(*checkpoint);
  report_.resumed_at = state_.steps();
  saver_.set_last_step(state_.steps());
  report_.resumed_from = path;
}

bool RunCheckpoints::after_step(const intro::StepResult& result) {
  if (result.stop_wished) {
    save();
    report_.stopped_by = stop_.name();
    return false;
  }
  if (options_.every > 0 && state_.steps() % options_.every == 0) save();
  return true;
}

void RunCheckpoints::finish() {
  saver_.wait();
  if (saver_.last_step() != state_.steps()) {
    save();
    saver_.wait();
  }
  report_.steps = state_.steps();
  report_.last_step = saver_.last_step();
  report_.saved = saver_.saved();
  report_.failed = saver_.failed();
}

void RunCheckpoints::save() {
  report_.stall_ms.push_back(
      saver_.save(state_.steps(), state_.tensors(), state_.metadata()));
}

}  // namespace dai::ddp
