// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/tuning/all_reduce_fit.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <cmath>

#include "ch01_intro/statistics/statistics.h"
#include "ch01_intro/sync/step_clock.h"
#include "common/report.h"
#include "common/torch/process_group.h"

namespace dai::ddp {

using hardware::Collective;

namespace {

constexpr std::int64_t kSmallest = 4 << 10;

double measured_ms(ProcessGroup& group, std::int64_t bytes, int repeats) {
  at::Tensor tensor = at::zeros({bytes / 4}, at::TensorOptions(group.device()));
  std::vector<double> times;
  for (int i = -2; i < repeats; ++i) {  // two to warm up
    group.barrier();
    intro::StepClock clock(group.device());
    group.all_reduce(tensor);
    const double ms = clock.lap_ms();
    if (i >= 0) times.push_back(ms);
  }
  return intro::percentile(times, 25);
}

}  // namespace

AllReduceFit fit_all_reduce(ProcessGroup& group, std::int64_t largest_bytes,
                            int repeats) {
  AllReduceFit fit{.ranks = group.size()};
  std::int64_t bytes = kSmallest;
  for (bool fitted = true;; fitted = !fitted, bytes *= 2) {
    // The two ends are fitted: a model is not asked beyond them.
    const bool last = bytes >= largest_bytes;
    fit.points.push_back({.bytes = static_cast<double>(bytes),
                          .measured_ms = measured_ms(group, bytes, repeats),
                          .fitted = fitted || last});
    if (last) break;
  }
  at::Tensor times =
      at::empty({std::ssize(fit.points)}, at::TensorOptions(at::kDouble));
  for (std::size_t i = 0; i < fit.points.size(); ++i) {
    times.data_ptr<double>()[i] = fit.points[i].measured_ms;
  }
  at::Tensor told = times.to(group.device());
  group.broadcast(told);
  times = told.cpu();

  const hardware::AlgorithmCost cost =
      cost_of(Collective::kAllReduce, "ring", group.size());
  std::vector<hardware::CostSample> samples;
  for (std::size_t i = 0; i < fit.points.size(); ++i) {
    auto& point = fit.points[i];
    point.measured_ms = times.const_data_ptr<double>()[i];
    if (!point.fitted) continue;
    samples.push_back({cost, point.bytes, point.measured_ms / 1e3});
  }
  fit.model = hardware::fit_model(Collective::kAllReduce, "ring",
                                  group.backend_name(), samples);
  for (auto& point : fit.points) {
    point.model_ms = fit.milliseconds(point.bytes);
  }
  return fit;
}

double AllReduceFit::unseen_error() const {
  std::vector<double> errors;
  for (const Point& point : points) {
    if (point.fitted) continue;
    errors.push_back(std::abs(point.model_ms / point.measured_ms - 1));
  }
  return errors.empty() ? 0 : intro::median(errors);
}

std::string AllReduceFit::to_string() const {
  Table table({"all_reduce of", "measured ms", "model ms", "seen by the fit"});
  for (const Point& point : points) {
    table.add_row({point.bytes < (1 << 20)
                       ? fmt::format("{:.0f} KiB", point.bytes / (1 << 10))
                       : fmt::format("{:.0f} MiB", point.bytes / (1 << 20)),
                   fmt::format("{:.3f}", point.measured_ms),
                   fmt::format("{:.3f}", point.model_ms),
                   point.fitted ? "yes" : "no"});
  }
  if (ranks == 1) return table.to_string() + "one rank: nothing travels\n";
  return table.to_string() +
         fmt::format("off at sizes not seen: {:.0f} %\n", 100 * unseen_error());
}

}  // namespace dai::ddp
