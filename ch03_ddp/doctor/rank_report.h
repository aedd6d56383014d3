// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a rank tells the others over the side channel, a few times a second.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ch03_ddp/doctor/call.h"
#include "ch03_ddp/doctor/model_facts.h"

namespace dai::ddp {

enum class ProcessState {
  kAlive,
  kStopped,  // by a signal or a debugger
  kDead,
  kSilent,  // not heard of, and nobody on its host to look
};
const char* to_string(ProcessState state);

// The state of a process on this host, from /proc; kSilent where it cannot be
// told.
ProcessState look_at_process(std::int64_t pid);

struct RankReport {
  int rank = 0;
  std::string host;
  std::int64_t pid = 0;
  std::uint64_t beat = 0;  // counts the reports
  std::int64_t step = -1;
  std::string phase;    // "data", "forward", "backward", "sync", "save", ...
  double phase_s = 0;   // for so long
  std::string failure;  // the exception that this rank leaves with
  bool failed_in_call = false;  // it came out of a collective
  bool closed = false;          // this rank has left the group in good order
  bool heard = false;           // a verdict
  bool over = false;            // knows that all have closed

  std::uint64_t issued = 0, finished = 0;  // collectives
  std::optional<Call> last_finished;
  std::optional<Call> current;  // in flight or refused
  double waiting_s = 0;         // in `current`
  double patience_s = 1;        // for `current`
  // Of the last steps, medians; the second: time with a collective in flight.
  double step_ms = 0, waited_ms = 0;
  std::int64_t steps_timed = 0;
  // Other ranks on this one's host whose processes are not alive.
  std::vector<std::pair<int, ProcessState>> neighbours;
  // The last calls, oldest first; only from a rank that is held up.
  std::vector<Call> calls;

  ModelFacts facts;
  std::optional<std::int64_t> leaves_of;  // step whose leaves are sent along

  // What the reader adds. Not sent.
  ProcessState process = ProcessState::kAlive;

  bool held_up() const { return current && waiting_s > patience_s; }
  bool refused() const {
    return current && current->state == CallState::kRefused;
  }
  std::string to_json() const;
};

// Throws std::runtime_error for what is not one.
RankReport rank_report_from_json(const std::string& text);

}  // namespace dai::ddp
