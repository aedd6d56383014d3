// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/trainer/loss_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "common/errors.h"

namespace dai::intro {
namespace {

// With a plus sign: what comes out of 0 / 0 often has none.
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

}  // namespace

void LossWatch::Window::add(double value) {
  if (full()) {
    const double oldest = values_.front() - shift_;
    sum_ -= oldest;
    squares_ -= oldest * oldest;
    values_.pop_front();
  }
  values_.push_back(value);
  sum_ += value - shift_;
  squares_ += (value - shift_) * (value - shift_);
  if (++since_rebuild_ < size_) return;
  since_rebuild_ = 0;
  // Differences from a value near the mean keep the squares small: sums of
  // squares of the values themselves would cancel to noise.
  shift_ = value;
  sum_ = squares_ = 0;
  for (const double v : values_) {
    sum_ += v - shift_;
    squares_ += (v - shift_) * (v - shift_);
  }
}

double LossWatch::Window::z(double value) const {
  if (!full()) return 0;
  const auto n = static_cast<double>(values_.size());
  const double mean = sum_ / n;
  const double variance = std::max(0.0, squares_ / n - mean * mean);
  const double distance = value - shift_ - mean;
  // A window without any spread says nothing about what is usual.
  return variance > 0 ? distance / std::sqrt(variance) : 0;
}

LossWatch::LossWatch(const LossWatchOptions& options)
    : options_(options), losses_(options.window), norms_(options.window) {
  if (!(options.spike_z >= 0)) {
    throw UsageError(fmt::format(
        "spike threshold {}: 0 (off) or a number of deviations is expected",
        options.spike_z));
  }
  if (options.window < 2 || options.give_up_after < 1) {
    throw UsageError(
        fmt::format("spike window {} and give-up count {}: at least 2 and 1",
                    options.window, options.give_up_after));
  }
}

LossWatch::Verdict LossWatch::see(double loss, double gradient_norm) {
  const std::int64_t step = ++steps_;
  Verdict verdict;
  if (!std::isfinite(loss) || !std::isfinite(gradient_norm)) {
    ++skipped_;
    ++not_finite_in_a_row_;
    verdict.accept = false;
    verdict.reason =
        std::isfinite(loss)
            ? fmt::format("gradient norm is {} at step {}, no update",
                          std::isnan(gradient_norm) ? kNan : gradient_norm,
                          step)
            : fmt::format("loss is {} at step {}, no update",
                          std::isnan(loss) ? kNan : loss, step);
    if (not_finite_in_a_row_ >= options_.give_up_after) {
      throw std::runtime_error(
          fmt::format("{}: {} steps in a row were not finite", verdict.reason,
                      not_finite_in_a_row_));
    }
    return verdict;
  }
  not_finite_in_a_row_ = 0;
  verdict.loss_z = losses_.z(loss);
  verdict.norm_z = norms_.z(gradient_norm);
  losses_.add(loss);
  norms_.add(gradient_norm);
  const bool loss_spike =
      options_.spike_z > 0 && verdict.loss_z > options_.spike_z;
  const bool norm_spike =
      options_.spike_z > 0 && verdict.norm_z > options_.spike_z;
  if (loss_spike || norm_spike) {
    ++skipped_;
    verdict.accept = false;
    verdict.reason = fmt::format(
        "{} {:g} at step {} lies {:.1f} deviations above the last {}, no "
        "update",
        loss_spike ? "loss" : "gradient norm",
        loss_spike ? loss : gradient_norm, step,
        loss_spike ? verdict.loss_z : verdict.norm_z, options_.window);
  }
  return verdict;
}

}  // namespace dai::intro
