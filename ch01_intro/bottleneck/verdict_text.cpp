// SPDX-License-Identifier: Apache-2.0
// What a verdict says: no rule is in here.
#include <fmt/format.h>

#include <array>

#include "ch01_intro/bottleneck/verdict.h"
#include "common/errors.h"
#include "common/report.h"

namespace dai::intro {
namespace {

constexpr std::array<const char*, 5> kResources = {"none", "input", "compute",
                                                   "memory", "communication"};

std::string who(int rank) {
  return rank < 0 ? "all ranks" : fmt::format("rank {}", rank);
}

std::string number(double value) {
  return fmt::format("{:.{}f}", value, value < 10 ? 2 : value < 1000 ? 1 : 0);
}

}  // namespace

const char* to_string(Resource resource) {
  return kResources.at(static_cast<std::size_t>(resource));
}

Resource resource_named(const std::string& word) {
  for (std::size_t i = 0; i < kResources.size(); ++i) {
    if (word == kResources[i]) return static_cast<Resource>(i);
  }
  throw UsageError(fmt::format(
      "'{}' is no verdict: none, input, compute, memory or communication",
      word));
}

std::string Verdict::sentence() const {
  if (resource == Resource::kNone) {
    return fmt::format(
        "verdict: none: a step takes {:.1f} ms, {:.2f} x its reference; "
        "nothing starves it",
        step_ms, reference_step_ms > 0 ? step_ms / reference_step_ms : 1);
  }
  return fmt::format(
      "verdict: {} ({}): {:.0f} % of a step of {:.1f} ms, which would be "
      "{:.1f} x as fast without it; {}",
      to_string(resource), who(rank), 100 * share(), step_ms, gain(), reason);
}

std::string Verdict::advice() const {
  switch (resource) {
    case Resource::kNone:
      return "to do: nothing from outside holds this job back; what is left is "
             "its own work";
    case Resource::kInput:
      return "to do: more readers, a longer queue before the step, samples in "
             "a form that needs less work, storage nearer by";
    case Resource::kCompute:
      return fmt::format(
          "to do: on the node of {}: who else uses the cores (top), a CPU "
          "quota (cpu.stat, nr_throttled), a stopped process (state T), "
          "swapping (vmstat), the clock",
          who(rank));
    case Resource::kMemory:
      return "to do: find the neighbour that moves the memory (perf, resctrl), "
             "give it other cores or another node; smaller working sets";
    case Resource::kCommunication:
      return "to do: check the link's speed, duplex and neighbours; fewer and "
             "larger messages, fewer bytes (bf16), communication behind "
             "backward";
  }
  return {};
}

std::string Verdict::table() const {
  Table measured(
      {"measure (medians)", "rank", "reference", "watched", "ratio"});
  for (const auto& [measure, where] : changes) {
    const auto& [rank, change] = where;
    if (!change.known) {
      measured.add_row({to_string(measure), "-", "-", "-", "not measured"});
      continue;
    }
    measured.add_row(
        {to_string(measure), std::to_string(rank), number(change.before),
         number(change.after),
         change.before > 0 ? fmt::format("{:.2f}", change.ratio()) : "-"});
  }
  Table blamed({"cause", "where", "ms a step", "share", "because", "named"});
  for (const Cause& cause : causes) {
    const bool named = !from_the_start && resource == cause.resource &&
                       cost_ms == cause.cost_ms;
    blamed.add_row(
        {to_string(cause.resource), who(cause.rank), number(cause.cost_ms),
         fmt::format("{:.0f} %",
                     step_ms > 0 ? 100 * cause.cost_ms / step_ms : 0),
         // What rounds to nothing has no reason worth reading.
         cause.cost_ms >= 0.005 ? cause.reason : "no growth",
         named              ? "yes"
         : !cause.large     ? "too small"
         : !cause.confirmed ? "not confirmed"
                            : "smaller"});
  }
  return measured.to_string() + "\n" + blamed.to_string();
}

}  // namespace dai::intro
