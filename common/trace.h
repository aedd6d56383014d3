// SPDX-License-Identifier: Apache-2.0
#pragma once

// Where the time goes, as a picture: events in Chrome's trace format, which
// ui.perfetto.dev and chrome://tracing open; one track (a "process") a rank.
//
//   Trace trace(rank, host);
//   { TraceSpan span(&trace, "all_reduce", "comm", {{"bytes", 4096}}); ... }
//   merged = merge_traces({{0, 0.0, trace0_json}, {1, offset_us,
//   trace1_json}});
//
// Format: "Trace Event Format" (Google). Times are microseconds of each host's
// own steady clock until merge_traces() moves them onto rank 0's.

#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "common/timer.h"

namespace dai {

using TraceArgs = std::vector<
    std::pair<std::string, std::variant<std::int64_t, double, std::string>>>;

// The events of one rank. Thread-safe: one lock and one move an event (well
// under a microsecond); text is made in to_json().
class Trace {
 public:
  Trace(int rank, std::string host);

  // Something that lasted; threads appear as lines of the rank's track.
  void complete(std::string name, std::string category, double begin_us,
                double duration_us, TraceArgs args = {});
  void instant(std::string name, std::string category, TraceArgs args = {});
  // Numbers over time, drawn as a graph: counter("memory", {{"bytes", 42}}).
  void counter(std::string name, TraceArgs values);

  std::string to_json() const;

 private:
  struct Event {
    char phase;  // the format's letter: X complete, i instant, C counter
    int thread;
    double begin_us;
    double duration_us;
    std::string name;
    std::string category;
    TraceArgs args;
  };
  void add(Event event);

  const int rank_;
  const std::string host_;
  mutable std::mutex mutex_;
  std::vector<Event> events_;
};

// Records the scope it lives in. With a null trace it does nothing, so that
// code need not ask whether --trace was given.
class TraceSpan {
 public:
  TraceSpan(Trace* trace, std::string name, std::string category,
            TraceArgs args = {});
  ~TraceSpan();
  TraceSpan(const TraceSpan&) = delete;
  TraceSpan& operator=(const TraceSpan&) = delete;

 private:
  Trace* trace_;
  std::string name_;
  std::string category_;
  TraceArgs args_;
  double begin_us_ = 0;
};

struct RankTrace {
  int rank = 0;
  double clock_offset_us = 0;  // added to this rank's times gives rank 0's
  std::string json;            // what Trace::to_json() returned there
};

// One file of all ranks on rank 0's clock. Throws UsageError naming the rank
// whose text is no trace, std::invalid_argument for a rank given twice.
std::string merge_traces(const std::vector<RankTrace>& traces);

// One question to rank 0: "what time is it?", on the asker's clock before and
// after, on rank 0's in between.
struct ClockSample {
  double send_us = 0;
  double remote_us = 0;
  double receive_us = 0;
};

struct ClockOffset {
  double offset_us = 0;     // asker's time + offset_us = remote's time
  double max_error_us = 0;  // half the round trip: the answer's own moment
};

// Cristian's algorithm (1989): of all samples the one with the shortest round
// trip, whose middle is taken for the remote's moment. Other samples only add
// queueing, so averaging would make it worse. Throws std::invalid_argument
// without samples or for one received before it was sent.
ClockOffset estimate_clock_offset(const std::vector<ClockSample>& samples);

}  // namespace dai
