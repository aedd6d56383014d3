// SPDX-License-Identifier: Apache-2.0
#pragma once

// "Save, and end": SIGTERM, which Slurm and Kubernetes send before they take a
// node away, and SIGUSR1, which sbatch --signal sends earlier. While this lives
// the signals are only noted; the training asks after each step.
//
//   StopSignal stop;
//   trainer.set_stop_wish([&] { return stop.received() != 0; });
//
// One at a time in a process.

namespace dai::ddp {

class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  int received() const;      // the signal's number, or 0
  const char* name() const;  // "SIGTERM", "SIGUSR1" or "another rank's signal"
};

}  // namespace dai::ddp
