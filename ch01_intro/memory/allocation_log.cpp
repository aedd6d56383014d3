// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory/allocation_log.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <stdexcept>

#include "common/timer.h"

namespace dai::intro {

const char* to_string(MemoryCategory category) {
  constexpr const char* kNames[kMemoryCategories] = {
      "parameters", "gradients", "optimizer", "activations",
      "buffers",    "temporary", "other"};
  return kNames[static_cast<int>(category)];
}

std::int64_t MemoryBytes::total() const {
  return std::accumulate(bytes.begin(), bytes.end(), std::int64_t{0});
}

AllocationLog::AllocationLog() : start_us_(steady_us()) {}

double AllocationLog::now_us() const {
  return steady_us() - start_us_;
}

// --- Recording -------------------------------------------------------------

void AllocationLog::on_allocate(const void* address, std::int64_t bytes) {
  if (address == nullptr) return;
  const std::lock_guard lock(mutex_);
  Allocation allocation;
  allocation.bytes = bytes;
  allocation.born = stretch();
  if (!module_stack_.empty()) allocation.module = module_stack_.back();
  live_[address] = allocations_.size();
  events_.push_back({now_us(), allocations_.size(), true});
  allocations_.push_back(allocation);
  live_bytes_ += bytes;
}

void AllocationLog::on_free(const void* address) {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(address);
  if (found == live_.end()) return;
  Allocation& allocation = allocations_[found->second];
  allocation.died_where_born = allocation.born == stretch();
  events_.push_back({now_us(), found->second, false});
  live_bytes_ -= allocation.bytes;
  live_.erase(found);
}

void AllocationLog::claim(const void* address, MemoryCategory category) {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(address);
  if (found == live_.end()) {
    throw std::logic_error(
        "AllocationLog: a claim on memory that is free or older than the log");
  }
  allocations_[found->second].claimed = true;
  allocations_[found->second].claim = category;
}

void AllocationLog::begin_phase(const std::string& name, bool saves) {
  const std::lock_guard lock(mutex_);
  if (in_phase_) {
    throw std::logic_error("AllocationLog: phase " + name + " begins inside " +
                           phases_.back().name);
  }
  in_phase_ = true;
  phases_.push_back({name, saves, now_us(), 0, events_.size(), 0});
}

void AllocationLog::end_phase() {
  const std::lock_guard lock(mutex_);
  if (!in_phase_) throw std::logic_error("AllocationLog: no phase to end");
  const int ended = stretch();
  in_phase_ = false;
  PhaseRecord& phase = phases_.back();
  phase.end_us = now_us();
  phase.end_event = events_.size();
  if (!phase.saves) return;
  // What an earlier forward saved, for a backward still to come, stays saved.
  for (const auto& [address, index] : live_) {
    Allocation& allocation = allocations_[index];
    if (allocation.born == ended) allocation.saved = true;
  }
}

void AllocationLog::enter_module(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto known =
      std::find(module_names_.begin(), module_names_.end(), name);
  module_stack_.push_back(static_cast<int>(known - module_names_.begin()));
  if (known == module_names_.end()) module_names_.push_back(name);
}

void AllocationLog::leave_module() {
  const std::lock_guard lock(mutex_);
  if (module_stack_.empty()) {
    throw std::logic_error("AllocationLog: no module to leave");
  }
  module_stack_.pop_back();
}

std::int64_t AllocationLog::live_bytes() const {
  const std::lock_guard lock(mutex_);
  return live_bytes_;
}

// --- Reporting -------------------------------------------------------------

MemoryCategory AllocationLog::category(const Allocation& allocation) const {
  if (allocation.claimed) return allocation.claim;
  if (allocation.saved) return MemoryCategory::kActivations;
  // While its phase still runs, an allocation counts as that phase's work.
  const bool phase_runs = in_phase_ && allocation.born == stretch();
  return allocation.died_where_born || phase_runs ? MemoryCategory::kTemporary
                                                  : MemoryCategory::kOther;
}

MemoryReport AllocationLog::report(std::size_t points) const {
  const std::lock_guard lock(mutex_);
  MemoryReport report;
  for (const PhaseRecord& phase : phases_) {
    report.phases.push_back({phase.name, phase.begin_us, phase.end_us, {}, {}});
  }
  // Of each `stride` events the one with most bytes is kept, so no peak is
  // lost.
  const std::size_t stride = std::max<std::size_t>(
      1, events_.size() / std::max<std::size_t>(points, 1));
  MemoryBytes live;
  std::size_t peak_event = 0;
  std::size_t current = 0;  // phases before this one have ended
  const auto pass_phases = [&](std::size_t event) {
    for (; current < phases_.size(); ++current) {
      if (phases_[current].begin_event > event) return;
      auto& phase = report.phases[current];
      if (live.total() > phase.peak.total()) phase.peak = live;
      phase.at_end = live;
      const bool has_ended = phases_[current].end_us > 0;
      if (!has_ended || phases_[current].end_event > event) return;
    }
  };
  for (std::size_t i = 0; i < events_.size(); ++i) {
    pass_phases(i);
    const Event& event = events_[i];
    const Allocation& allocation = allocations_[event.allocation];
    live[category(allocation)] +=
        event.is_birth ? allocation.bytes : -allocation.bytes;
    if (live.total() > report.peak.total()) {
      report.peak = live;
      report.peak_us = event.us;
      peak_event = i;
    }
    if (i % stride == 0 || i + 1 == events_.size()) {
      report.timeline.push_back({event.us, live});
    } else if (live.total() > report.timeline.back().live.total()) {
      report.timeline.back() = {event.us, live};
    }
  }
  pass_phases(events_.size());
  report.at_end = live;

  std::map<int, MemoryBytes> by_module;
  std::vector<bool> alive(allocations_.size(), false);
  for (std::size_t i = 0; i < events_.size() && i <= peak_event; ++i) {
    alive[events_[i].allocation] = events_[i].is_birth;
  }
  for (std::size_t i = 0; i < allocations_.size(); ++i) {
    const Allocation& allocation = allocations_[i];
    if (alive[i]) {
      by_module[allocation.module][category(allocation)] += allocation.bytes;
    }
  }
  for (const auto& [module, bytes] : by_module) {
    report.modules.push_back(
        {module == kNone ? std::string() : module_names_[module], bytes});
  }
  std::stable_sort(report.modules.begin(), report.modules.end(),
                   [](const auto& a, const auto& b) {
                     return a.at_peak.total() > b.at_peak.total();
                   });
  return report;
}

}  // namespace dai::intro
