// SPDX-License-Identifier: Apache-2.0
#pragma once

// Watches a data-parallel run from beside it, and says who holds it up.
//
//   ddp::Watch watch(group, app.launch());
//   for (...) { watch.begin_step(step); watch.enter("forward"); ... }
//
// Two things happen. Before a collective is issued the ranks compare what they
// are about to call (handshake.h); one that differs throws, on the rank that
// found it, before the backend has seen it. And a thread of each rank tells the
// others what it is doing, over a connection of its own to the store, also
// while a collective hangs; the lowest rank that is alive judges (judge.h) and
// prints the verdict on standard error, within 2 s of a stall. A stall is a
// call that is waited for longer than max(1 s, 5 x what it usually takes), 5 s
// where it was never made before; a rank that computes may take three of its
// usual steps, one that loads or saves 30 s.
//
// It costs a round trip to the store for each collective, and no waiting for
// other ranks: `watch_step_vs_off` of bench/bench.py has the price. Besides,
// each rank reads all ranks' reports, every 100 ms or 10 ms x ranks: made for
// tens of ranks. A verdict does not end the training, unless options say so.
//
// Collective: the constructor and close(). One training thread.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ch03_ddp/doctor/call.h"
#include "ch03_ddp/doctor/model_facts.h"
#include "common/launch_context.h"

namespace dai {
class ProcessGroup;
}

namespace dai::ddp {

struct WatchOptions {
  // A rank that still hangs so long after a verdict ends with exit code 1, and
  // the launcher ends the rest. 0: it waits for the group's time-out.
  double end_after_verdict_s = 0;
  // A folder: each rank's calls in the form of PyTorch's flight recorder, when
  // there is a verdict and in the end. Empty: none.
  std::string flight_recorder = {};
  bool prints = true;  // verdicts, on standard error
};

class Watch {
 public:
  // Keeps the reference. Throws std::runtime_error where a rank does not come.
  Watch(ProcessGroup& group, const LaunchContext& launch,
        const WatchOptions& options = {});
  // close(); when an exception passes, waits until a verdict is out, 3 s at
  // most.
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  // Meets the other ranks' watches, so that nothing that was told is left
  // unjudged, 3 s at most; watches no more.
  void close();

  void begin_step(std::int64_t step);
  // What comes now belongs to no step.
  void end_steps();
  // "forward", "backward", "sync", ...: where a rank is that is in no
  // collective. In "data" and "save" it may be for 30 s before it is missed,
  // in "paused" for ever.
  void enter(const char* phase);
  // Of the model and its data: model_watch.h.
  void name_parameters(std::vector<std::string> names);
  void tell(WeightsCheck check);
  void tell(NanFound nan);
  void tell_data(std::int64_t step, std::uint64_t fingerprint);
  void tell_loss(std::int64_t step);  // seen; a NaN in it has been told
  // This rank is about to leave with an exception of its own.
  void tell_failure(const std::string& what);

  // Median of the handshakes so far, in microseconds.
  double handshake_us() const;
  std::vector<Call> calls() const;  // the last 2048, for the flight recorder
  // What was said last, on whichever rank; empty: nothing. Stays when the run
  // goes on.
  std::string verdict() const;
  // Waits until one is in force, so long at most; what was said before of a
  // slow rank or of the model is none.
  std::string await_verdict(double seconds);

 private:
  class Observer;
  struct State;
  void end(bool failing);
  ProcessGroup& group_;
  std::shared_ptr<State> state_;
  std::shared_ptr<Observer> observer_;
  bool ended_ = false;
  const int exceptions_at_birth_;
};

}  // namespace dai::ddp
