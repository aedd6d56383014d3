// SPDX-License-Identifier: Apache-2.0
#pragma once

// Who holds how many bytes, when, and for what. An allocator reports every
// allocation and every free; the training loop says which phase it is in and
// which module runs; and whoever knows a buffer's purpose claims it. What
// nobody claims is classified by how long it lived:
//
//   claimed                                  parameters, gradients, optimizer,
//                                            buffers: what the claim says
//   born in a phase that saves (forward)     activations: they wait for
//     and alive at its end                   backward
//   born and dead in the same phase          temporary
//   anything else                            other: look for a leak here
//
// That cannot be known when the bytes are handed out, so the log keeps events
// and the report sweeps over them afterwards: nothing is estimated, the
// categories add up to the allocator's live bytes at every single event.
//
//   AllocationLog log;
//   log.begin_phase("forward", /*saves=*/true);
//   log.on_allocate(p, 4096);
//   log.end_phase();
//   MemoryReport report = log.report();
//   report.peak[MemoryCategory::kActivations];
//
// Bytes are those asked for, without the allocator's own rounding. All calls
// may come from any thread; phases and modules are those of the whole process
// (backward's threads work for the one loop that waits for them).
// Errors: std::logic_error for a phase in a phase, an end without a beginning,
// and for a claim on memory that this log never saw or that is already free.

#include <array>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace dai::intro {

enum class MemoryCategory {
  kParameters,
  kGradients,
  kOptimizer,
  kActivations,
  kBuffers,  // inputs, tables, caches that live on
  kTemporary,
  kOther,
};
inline constexpr int kMemoryCategories = 7;
const char* to_string(MemoryCategory category);

// Bytes by category.
struct MemoryBytes {
  std::array<std::int64_t, kMemoryCategories> bytes{};
  std::int64_t& operator[](MemoryCategory c) {
    return bytes[static_cast<int>(c)];
  }
  std::int64_t operator[](MemoryCategory c) const {
    return bytes[static_cast<int>(c)];
  }
  std::int64_t total() const;
};

struct MemoryReport {
  struct Point {
    double us = 0;  // since the log was made
    MemoryBytes live;
  };
  struct Phase {
    std::string name;
    double begin_us = 0;
    double end_us = 0;
    MemoryBytes at_end;
    MemoryBytes peak;  // at the event where the phase's total was largest
  };
  struct Module {
    std::string name;  // empty: outside all modules
    MemoryBytes at_peak;
  };
  MemoryBytes peak;  // at the event where the total was largest
  double peak_us = 0;
  MemoryBytes at_end;
  std::vector<Phase> phases;    // in the order of their beginnings
  std::vector<Module> modules;  // largest first; who allocated what peak holds
  // About `points` of them: of each stretch the moment with most bytes.
  std::vector<Point> timeline;
};

class AllocationLog {
 public:
  AllocationLog();

  void on_allocate(const void* address, std::int64_t bytes);
  void on_free(const void* address);  // unknown addresses are ignored: they
                                      // are older than the log

  // The allocation at `address` belongs to `category` from its birth on; a
  // later claim overrides an earlier one.
  void claim(const void* address, MemoryCategory category);

  void begin_phase(const std::string& name, bool saves = false);
  void end_phase();
  void enter_module(const std::string& name);  // modules nest
  void leave_module();

  std::int64_t live_bytes() const;
  MemoryReport report(std::size_t points = 2000) const;

 private:
  static constexpr int kNone = -1;
  struct Allocation {
    std::int64_t bytes = 0;
    int born = 0;  // stretch()
    int module = kNone;
    bool saved = false;  // was alive when its phase ended, and that one saves
    bool died_where_born = false;
    bool claimed = false;
    MemoryCategory claim{};
  };
  struct Event {
    double us = 0;
    std::size_t allocation = 0;
    bool is_birth = false;
  };
  struct PhaseRecord {
    std::string name;
    bool saves = false;
    double begin_us = 0, end_us = 0;
    std::size_t begin_event = 0, end_event = 0;
  };
  MemoryCategory category(const Allocation& allocation) const;
  double now_us() const;
  // Numbers the phases, odd, and the times between them, even.
  int stretch() const {
    return 2 * static_cast<int>(phases_.size()) - (in_phase_ ? 1 : 0);
  }

  mutable std::mutex mutex_;
  const double start_us_;
  std::vector<Allocation> allocations_;
  std::vector<Event> events_;
  std::vector<PhaseRecord> phases_;
  std::vector<std::string> module_names_;
  std::vector<int> module_stack_;
  std::unordered_map<const void*, std::size_t> live_;
  std::int64_t live_bytes_ = 0;
  bool in_phase_ = false;
};

}  // namespace dai::intro
