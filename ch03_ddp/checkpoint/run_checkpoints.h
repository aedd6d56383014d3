// SPDX-License-Identifier: Apache-2.0
#pragma once

// A training loop's side of checkpoints: goes on from the newest whole one,
// saves every so many steps and at the end, and when a signal asks for it.
//
//   RunCheckpoints checkpoints(group, options, state);   // resumes
//   while (state.steps() < total) {
//     const StepResult result = trainer.step();
//     state.saw(result);
//     if (!checkpoints.after_step(result)) break;        // told to stop: saved
//   }
//   checkpoints.finish();
//
// All ranks must see the folder. Collective. Throws UsageError for a checkpoint
// of another run (training_state.h), and where a rank does not find what rank 0
// has found.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ch03_ddp/checkpoint/checkpoint_saver.h"
#include "ch03_ddp/checkpoint/stop_signal.h"
#include "ch03_ddp/checkpoint/training_state.h"

namespace dai::ddp {

struct CheckpointOptions {
  std::string folder;      // empty: no checkpoints
  std::int64_t every = 0;  // steps; 0: in the end and at signals only
  SaverOptions saver;
  Metadata config;  // what a run that goes on must share

  void check() const;  // throws UsageError
};

struct CheckpointReport {
  std::int64_t resumed_at = 0;       // steps that were done before
  std::string resumed_from;          // folder; empty: from nothing
  std::vector<std::string> damaged;  // passed over: folder and reason
  std::int64_t saved = 0, failed = 0;
  std::vector<double> stall_ms;  // of each save
  std::string stopped_by;        // a signal; empty: ran to its end
  std::int64_t steps = 0;        // done in the end
  std::int64_t last_step = -1;   // of the newest checkpoint; -1: none

  std::string to_string() const;
};

class RunCheckpoints {
 public:
  RunCheckpoints(ProcessGroup& group, intro::Trainer& trainer,
                 const CheckpointOptions& options, TrainingState& state);
  ~RunCheckpoints();

  bool after_step(const intro::StepResult& result);
  void finish();
  const CheckpointReport& report() const { return report_; }

 private:
  void resume();
  void save();

  ProcessGroup& group_;
  intro::Trainer& trainer_;
  const CheckpointOptions options_;
  TrainingState& state_;
  CheckpointStore store_;
  CheckpointSaver saver_;
  StopSignal stop_;
  CheckpointReport report_;
};

}  // namespace dai::ddp
