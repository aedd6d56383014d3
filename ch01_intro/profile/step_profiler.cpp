// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/profile/step_profiler.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "ch01_intro/profile/kineto_recording.h"
#include "ch01_intro/statistics/statistics.h"
#include "common/report.h"
#include "common/timer.h"

namespace dai::intro {
namespace {

double median_ms(const std::function<void()>& step, at::Device device,
                 std::int64_t steps) {
  std::vector<double> times;
  for (std::int64_t i = 0; i < steps; ++i) {
    const WallTimer timer;
    step();
    if (device.is_cuda()) {
      c10::impl::VirtualGuardImpl(device.type())
          .synchronizeDevice(device.index());
    }
    times.push_back(timer.ms());
  }
  return median(times);
}

// The engine's own events have long names with the node's at their end.
std::string shortened(std::string name) {
  constexpr std::string_view kEngine = "autograd::engine::evaluate_function: ";
  if (name.starts_with(kEngine)) {
    name = "engine: " + name.substr(kEngine.size());
  }
  constexpr std::size_t kWidth = 48;
  if (name.size() > kWidth) name.replace(kWidth - 3, std::string::npos, "...");
  return name;
}

std::string module_name(const std::string& name) {
  return name.empty() ? "(in no module)" : name;
}

struct PerStep {
  double steps;
  double ms(std::int64_t ns) const {
    return static_cast<double>(ns) / 1e6 / steps;
  }
};

PerStep per_step(const OperatorProfile& profile) {
  return {static_cast<double>(profile.steps)};
}

std::string text(double ms) {
  return fmt::format("{:.3f}", ms);
}

// A table with the device's time at its end where a device was at work.
class Columns {
 public:
  Columns(bool device, std::vector<std::string> header)
      : device_(device), table_(extended(std::move(header), "device ms")) {}

  void add(std::vector<std::string> cells, double device_ms) {
    table_.add_row(extended(std::move(cells), text(device_ms)));
  }
  std::string to_string() const { return table_.to_string(); }

 private:
  std::vector<std::string> extended(std::vector<std::string> cells,
                                    std::string last) const {
    if (device_) cells.push_back(std::move(last));
    return cells;
  }
  bool device_;
  Table table_;
};

}  // namespace

StepReport profile_step(const std::function<void()>& step, at::Device device,
                        const ProfileStepOptions& options) {
  if (options.steps < 1 || options.warm_up < 0) {
    throw std::invalid_argument(
        fmt::format("profile_step: {} steps after {}, at least 1 after 0",
                    options.steps, options.warm_up));
  }
  StepReport report;
  for (std::int64_t i = 0; i < options.warm_up; ++i) step();
  {
    FlopCounter counter;
    step();
    report.flops = counter.total();
    report.attention = counter.attention();
    report.flops_by_operator = counter.by_operator();
    report.unknown = counter.unknown();
  }
  {
    KinetoRecording recording(device, /*flops=*/true);
    recording.step(step);
    report.kineto_flops = sort_events(recording.stop()).flops;
  }
  report.bare_ms = median_ms(step, device, options.steps);

  KinetoRecording recording(device);
  const WallTimer timer;
  for (std::int64_t i = 0; i < options.steps; ++i) recording.step(step);
  report.outer_clock_ms = timer.ms();
  report.profile = sort_events(recording.stop());
  if (options.trace) report.trace = recording.chrome_trace();
  return report;
}

std::int64_t StepReport::flops_of(const std::string& name) const {
  const auto found = flops_by_operator.find(name);
  return found == flops_by_operator.end() ? 0 : found->second.flops;
}

double StepReport::recorded_ms() const {
  return per_step(profile).ms(profile.wall_ns);
}

double StepReport::outlasts_clock() const {
  const double recorded = static_cast<double>(profile.wall_ns) / 1e6;
  return std::max(0.0, recorded / outer_clock_ms - 1);
}

std::string StepReport::operators_table(std::size_t rows) const {
  const PerStep step = per_step(profile);
  const bool device = profile.device_ns() > 0;
  Columns table(device, {"operator", "kind", "calls", "self ms", "%",
                         "total ms", "GFLOP/s"});
  for (const OperatorRow& row : profile.operators) {
    if (rows-- == 0) break;
    const auto flops = flops_by_operator.find(row.name);
    const double busy_ms = step.ms(device ? row.device_ns : row.self_ns);
    std::string rate;
    if (flops != flops_by_operator.end() && busy_ms > 0) {
      rate = fmt::format(
          "{:.2f}", static_cast<double>(flops->second.flops) / busy_ms / 1e6);
    }
    table.add({shortened(row.name), to_string(row.group),
               fmt::format("{:g}", static_cast<double>(row.calls) / step.steps),
               text(step.ms(row.self_ns)),
               fmt::format("{:.1f}", 100 * static_cast<double>(row.self_ns) /
                                         static_cast<double>(profile.wall_ns)),
               text(step.ms(row.total_ns)), rate},
              step.ms(row.device_ns));
  }
  return table.to_string();
}

std::string StepReport::groups_table() const {
  const PerStep step = per_step(profile);
  const bool device = profile.device_ns() > 0;
  Columns table(device, {"kind of work", "self ms", "%"});
  for (const GroupRow& row : profile.groups) {
    table.add({to_string(row.group), text(step.ms(row.self_ns)),
               fmt::format("{:.1f}", 100 * profile.share(row.group))},
              step.ms(row.device_ns));
  }
  if (profile.other_threads_ns > 0) {
    table.add(
        {"less other threads", text(-step.ms(profile.other_threads_ns)), ""},
        0);
  }
  table.add({"step", text(recorded_ms()), ""}, step.ms(profile.device_ns()));
  return table.to_string();
}

std::string StepReport::modules_table() const {
  const PerStep step = per_step(profile);
  Columns table(profile.device_ns() > 0,
                {"module", "forward ms", "backward ms"});
  for (const ModuleRow& row : profile.modules_of_all_layers()) {
    table.add({module_name(row.name), text(step.ms(row.forward_ns)),
               text(step.ms(row.backward_ns))},
              step.ms(row.device_ns));
  }
  return table.to_string();
}

std::vector<std::pair<std::string, double>> StepReport::metrics() const {
  const double counted = static_cast<double>(flops);
  return {
      {"bare_step_ms", bare_ms},
      {"recorded_step_ms", recorded_ms()},
      {"profiler_overhead_percent", 100 * (recorded_ms() / bare_ms - 1)},
      {"outside_products_percent", 100 * profile.outside_products()},
      {"between_operators_percent",
       100 * profile.share(OperatorGroup::kBetween)},
      {"step_flops", counted},
      {"attention_flops", static_cast<double>(attention)},
      {"kineto_flops", static_cast<double>(kineto_flops)},
      {"kineto_missing_percent",
       counted == 0 ? 0
                    : 100 * (1 - static_cast<double>(kineto_flops) / counted)},
      {"bare_gflops_per_s", counted / bare_ms / 1e6}};
}

nlohmann::ordered_json StepReport::to_json() const {
  const PerStep step = per_step(profile);
  nlohmann::ordered_json json;
  for (const OperatorRow& row : profile.operators) {
    json["operators"].push_back(
        {{"name", row.name},
         {"kind", to_string(row.group)},
         {"calls", static_cast<double>(row.calls) / step.steps},
         {"self_ms", step.ms(row.self_ns)},
         {"total_ms", step.ms(row.total_ns)},
         {"device_ms", step.ms(row.device_ns)}});
  }
  for (const ModuleRow& row : profile.modules) {
    json["modules"].push_back({{"name", module_name(row.name)},
                               {"forward_ms", step.ms(row.forward_ns)},
                               {"backward_ms", step.ms(row.backward_ns)},
                               {"device_ms", step.ms(row.device_ns)}});
  }
  for (const GroupRow& row : profile.groups) {
    json["kinds_ms"][to_string(row.group)] = step.ms(row.self_ns);
  }
  for (const auto& [name, sum] : flops_by_operator) {
    json["flops"][name] = {{"calls", sum.calls}, {"flops", sum.flops}};
  }
  return json;
}

}  // namespace dai::intro
