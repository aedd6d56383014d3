// SPDX-License-Identifier: Apache-2.0
#pragma once

// The last calls of this rank, what each usually takes, and how long it has
// waited in the one it is in. Thread-safe: the training thread and the
// backend's threads write, the watch's thread reads.

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "ch03_ddp/doctor/call.h"

namespace dai::ddp {

class CallLog {
 public:
  // Keeps the last `capacity` calls.
  explicit CallLog(std::size_t capacity = 2048) : capacity_(capacity) {}

  void begin(const Call& call);
  void end(const CollectiveEvent& event, CallState state, double now_us);

  std::vector<Call> last(std::size_t count) const;
  std::optional<Call> last_finished() const;
  // Of the collectives in flight or refused, the one with the lowest number;
  // messages only where there is no collective.
  std::optional<Call> current() const;
  std::uint64_t issued() const;  // collectives
  std::uint64_t finished() const;
  // How long `call` may be waited for: max(1 s, 5 x the median of the calls
  // that were its like); 5 s for the first of its like.
  double patience_s(const Call& call) const;
  // Milliseconds in which at least one call was in flight, since the
  // last time this was asked.
  double take_waited_ms(double now_us);

 private:
  Call* find(const CollectiveEvent& event);

  mutable std::mutex mutex_;
  const std::size_t capacity_;
  std::deque<Call> calls_;
  // By identity: seconds that the last ones took.
  std::map<std::string, std::deque<double>> durations_;
  std::optional<Call> last_finished_;
  std::uint64_t issued_ = 0, finished_ = 0;
  int in_flight_ = 0;
  double busy_since_us_ = 0, waited_us_ = 0;
};

}  // namespace dai::ddp
