// SPDX-License-Identifier: Apache-2.0
#pragma once

// "Save, and end": SIGTERM, which Slurm and Kubernetes send before they take a
// node away, and SIGUSR1, which sbatch --signal sends earlier. While this lives
// the signals are only noted; the training asks after each step.
//
//   StopSignal stop;
//   trainer.set_stop_wish([&] { return stop.received() != 0; });
//
// The thread that makes it has the two signals blocked meanwhile, and so have
// the threads it starts; one that does nothing else takes them. Where a signal
// interrupted the matrix products of LibTorch's oneDNN, one training in six
// died of a heap that was no longer whole.
//
// One at a time in a process.

#include <csignal>
#include <thread>

namespace dai::ddp {

class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  int received() const;      // the signal's number, or 0
  const char* name() const;  // "SIGTERM", "SIGUSR1" or "another rank's signal"

 private:
  std::jthread listener_;
  sigset_t mask_before_;
};

}  // namespace dai::ddp
