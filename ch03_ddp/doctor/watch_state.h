// SPDX-License-Identifier: Apache-2.0
#pragma once

// The side of a watch that goes on while its training hangs: a thread that
// tells the other ranks what this one is doing, hears what they do, and judges
// when it is the lowest rank alive; and one that notices when the store itself
// does not answer. Used by watch.cpp alone. Includes c10d: for .cpp files only.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ch03_ddp/doctor/call_log.h"
#include "ch03_ddp/doctor/flight_recorder.h"
#include "ch03_ddp/doctor/handshake.h"
#include "ch03_ddp/doctor/rank_report.h"
#include "ch03_ddp/doctor/watch.h"
#include "common/timer.h"
#include "common/torch/c10d_compat.h"

namespace dai::ddp {

// The last few of something, for its median.
class RecentValues {
 public:
  void add(double value);
  double median() const;  // 0: none yet
  std::int64_t count() const { return std::ssize(values_); }

 private:
  std::deque<double> values_;
};

// Since when a thread has talked to the store, as long as it does.
class StoreTalk {
 public:
  explicit StoreTalk(std::atomic<double>& since_us) : since_us_(since_us) {
    since_us_ = steady_us();
  }
  ~StoreTalk() { since_us_ = 0; }
  StoreTalk(const StoreTalk&) = delete;
  StoreTalk& operator=(const StoreTalk&) = delete;

 private:
  std::atomic<double>& since_us_;
};

inline constexpr std::size_t kCallsKept = 2048;  // the flight recorder's

struct Watch::State {
  State(ProcessGroup& group, const LaunchContext& launch,
        const WatchOptions& options);

  std::string report_key(int rank) const {
    return name + "/rank/" + std::to_string(rank);
  }
  RankReport report();
  std::vector<RankReport> hear();
  double silent_s(int rank) const;  // since its last new report
  void tell_neighbours(std::vector<RankReport>& ranks);
  bool is_judge(const std::vector<RankReport>& ranks) const;
  void tell(const std::string& key, const std::string& text);
  void take(const std::string& text);
  void judge_and_tell(const std::vector<RankReport>& ranks);
  void take_notice(std::string& notice, const std::string& text);
  void record();
  RecorderGroup recorder_group() const;
  void tell_what_was_said();
  void conclude(const std::vector<RankReport>& ranks);
  void end_if_hanging();
  void watch_ranks();  // a thread
  void watch_store();  // another, on all ranks but rank 0
  void store_is_stuck();
  template <typename Talk>
  auto with_store(Talk talk) {
    const StoreTalk mark(store_busy_since_us);
    return talk();
  }

  const LaunchContext launch;
  const WatchOptions options;
  const int size;
  const std::string name;
  const std::string verdict_key = name + "/verdict";
  // Notices: what nobody hangs for.
  const std::string speed_key = name + "/speed";
  const std::string model_key = name + "/model";
  const std::string end_key = name + "/end";  // all have closed
  // Rank 0 may serve it: it must outlive the group.
  const c10::intrusive_ptr<::c10d::Store> groups_store;
  const c10::intrusive_ptr<::c10d::Store> store;
  Handshake handshake;
  const std::chrono::milliseconds period;
  const double silent_after_s;  // without a new report
  CallLog log;

  mutable std::mutex mutex;
  std::condition_variable wake;
  bool ending = false;
  std::int64_t step = -1;
  std::string phase;
  double phase_since_us = steady_us();
  std::string failure;
  bool failed_in_call = false;
  bool closed = false, over = false;  // rank_report.h
  double step_since_us = 0;
  RecentValues step_ms, waited_ms, handshake_us;
  ModelFacts facts;
  std::optional<std::int64_t> leaves_of;  // a step whose weights differ
  std::string verdict;                    // in force; heard or made
  double verdict_since_us = 0;
  std::string speed_notice, model_notice;
  std::string last_words;  // the last verdict or notice there was
  bool all_have_heard = false;
  std::string host_of_rank0;
  std::int64_t pid_of_rank0 = 0;
  bool closed_of_rank0 = false;
  std::string said_of_store;  // by rank 1, while nobody could hear it

  // Of the watching thread alone.
  std::uint64_t beat = 0;
  std::vector<std::pair<std::uint64_t, double>> heard;  // beat, since_us
  std::vector<std::pair<int, ProcessState>> neighbours;
  bool told_of_end = false;
  int rounds_since_all_closed = 0;

  std::atomic<double> store_busy_since_us = 0;  // 0: it is not talked to
  std::atomic<bool> record_due = false;
  std::thread ranks_thread, store_thread;
};

}  // namespace dai::ddp
