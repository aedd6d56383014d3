// SPDX-License-Identifier: Apache-2.0
#pragma once

// How far a long loop is, on stderr: one line that rewrites itself on a
// terminal, a plain line every few seconds in a log, nothing for a short run
// in a log.
//
//   Progress progress("train", steps, rank == 0);
//   for (...) progress.update(step + 1, fmt::format("loss {:.3f}", loss));
//
//   train 450/1000 steps (45 %) 91.2 steps/s, 6 s left, loss 0.420

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "common/timer.h"

namespace dai {

struct ProgressOutput {
  std::FILE* file = stderr;
  double terminal_interval_s = 0.1;  // rewriting faster only costs time
  double plain_interval_s = 5;
  int columns = 0;  // of the terminal; 0: ask `file` whether it is one
};

class Progress {
 public:
  // total 0: not known, so neither percentage nor time left. `enabled` is for
  // rank 0 alone: N ranks would say the same thing N times.
  Progress(std::string label, std::int64_t total, bool enabled = true,
           std::string unit = "steps", ProgressOutput output = {});
  // Shows the last update if a line was ever shown, and ends the line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Cheap enough for every step of a loop: mostly one look at the clock.
  void update(std::int64_t done, std::string_view note = {});

 private:
  void show();
  std::string label_;
  std::int64_t total_;
  std::string unit_;
  bool enabled_;
  ProgressOutput output_;
  bool terminal_;
  WallTimer timer_;
  double next_s_;
  // Rates count from the first update on: what lies before it is preparation.
  double first_s_ = -1;
  std::int64_t first_done_ = 0;
  double last_s_ = 0;  // of the last update
  std::int64_t done_ = 0;
  std::int64_t shown_ = -1;  // done_ as last shown; -1: never
  std::string note_;
};

}  // namespace dai
