// SPDX-License-Identifier: Apache-2.0
#pragma once

// Decides after each backward pass whether the step may touch the weights. One
// NaN in a gradient makes every weight NaN for good, and one absurd batch can
// throw a long run off its path; so the update is skipped, counted and said.
//
//   not finite (loss or gradient norm): always skipped; after
//     `give_up_after` of them in a row, the run ends.
//   spike: with `spike_z` > 0, a loss or norm more than spike_z standard
//     deviations above the mean of the last `window` finite steps. Only a full
//     window is trusted. Spikes enter it like all others: after a lasting
//     change the new level becomes the usual one within a few steps.
//
// All ranks see the same global loss and norm and so decide the same way
// without asking each other. O(1) a step.
//
//   LossWatch watch({.spike_z = 6});
//   if (watch.see(loss, norm).accept) optimizer.step(rate);
//
// The z-score rule is llm.c's (-sl, -sg), but for the value itself, which is
// compared with the window before it.

#include <cstdint>
#include <deque>
#include <string>

namespace dai::intro {

struct LossWatchOptions {
  double spike_z = 0;         // 0: spikes are let through
  std::int64_t window = 128;  // at least 2
  std::int64_t give_up_after = 10;
};

class LossWatch {
 public:
  struct Verdict {
    bool accept = true;
    std::string reason;  // one line when not accepted
    double loss_z = 0;   // 0 until the window is full
    double norm_z = 0;
  };

  // Throws UsageError when an option makes no sense.
  explicit LossWatch(const LossWatchOptions& options = {});

  // Throws std::runtime_error after give_up_after skips in a row that were
  // not finite: "loss is nan at step 17, no update: 10 steps in a row ...".
  // Steps count from 1 in what people read.
  Verdict see(double loss, double gradient_norm);

  std::int64_t skipped() const { return skipped_; }

 private:
  // Mean and deviation over a sliding window; sums are made anew from the
  // window each time it has turned over, so that rounding cannot pile up.
  class Window {
   public:
    explicit Window(std::int64_t size) : size_(size) {}
    void add(double value);
    double z(double value) const;
    bool full() const {
      return static_cast<std::int64_t>(values_.size()) == size_;
    }

   private:
    std::int64_t size_;
    std::deque<double> values_;
    double sum_ = 0, squares_ = 0;  // of value - shift_
    double shift_ = 0;
    std::int64_t since_rebuild_ = 0;
  };

  LossWatchOptions options_;
  Window losses_;
  Window norms_;
  std::int64_t steps_ = 0;
  std::int64_t skipped_ = 0;
  std::int64_t not_finite_in_a_row_ = 0;
};

}  // namespace dai::intro
