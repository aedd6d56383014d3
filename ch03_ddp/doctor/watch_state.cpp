// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/watch_state.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "ch03_ddp/doctor/judge_model.h"
#include "common/torch/process_group.h"

namespace dai::ddp {
namespace {

constexpr double kSilentAfterS = 1;        // without a new report
constexpr double kStoreStuckAfterS = 1.5;  // in one conversation with it
constexpr double kCallsToldAfterS = 0.2;
constexpr std::size_t kCallsTold = 256;
constexpr std::size_t kRecent = 31;
constexpr std::chrono::milliseconds kClosingPeriod{10};

// Each watch of a process has keys of its own; constructors are collective, so
// that the ranks count alike.
std::string next_name() {
  static std::atomic<int> watches = 0;
  return fmt::format("watch/{}", watches++);
}

// One write, so that ranks' lines do not mix.
void say(const std::string& text) {
  const std::string line = "doctor: " + text + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

}  // namespace

void RecentValues::add(double value) {
  values_.push_back(value);
  if (values_.size() > kRecent) values_.pop_front();
}

double RecentValues::median() const {
  if (values_.empty()) return 0;
  std::vector<double> values(values_.begin(), values_.end());
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::ranges::nth_element(values, middle);
  return *middle;
}

Watch::State::State(ProcessGroup& group, const LaunchContext& its_launch,
                    const WatchOptions& its_options)
    : launch(its_launch),
      options(its_options),
      size(group.size()),
      name(next_name()),
      groups_store(group.store()),
      store(groups_store->clone()),
      handshake(groups_store->clone(), name + "/call"),
      // Each rank reads all ranks' reports.
      period(std::max(100, 10 * group.size())) {}

RankReport Watch::State::report() {
  const double now = steady_us();
  RankReport report;
  report.rank = launch.rank;
  report.host = launch.host;
  report.pid = getpid();
  report.beat = ++beat;
  report.issued = log.issued();
  report.finished = log.finished();
  report.last_finished = log.last_finished();
  report.current = log.current();
  if (report.current) {
    report.waiting_s = report.current->seconds(now);
    report.patience_s = log.patience_s(*report.current);
    if (report.refused() || report.waiting_s > kCallsToldAfterS) {
      report.calls = log.last(kCallsTold);
    }
  }
  report.neighbours = neighbours;
  std::lock_guard lock(mutex);
  report.step = step;
  report.phase = phase;
  report.phase_s = (now - phase_since_us) / 1e6;
  report.failure = failure;
  report.failed_in_call = failed_in_call;
  report.closed = closed;
  report.over = over;
  report.heard = !last_words.empty();
  report.facts = facts;
  report.leaves_of = leaves_of;
  report.step_ms = step_ms.median();
  report.waited_ms = waited_ms.median();
  report.steps_timed = step_ms.count();
  return report;
}

std::vector<RankReport> Watch::State::hear() {
  std::vector<std::string> keys;
  for (int rank = 0; rank < size; ++rank) keys.push_back(report_key(rank));
  keys.insert(keys.end(), {verdict_key, notice_key, end_key});
  const auto values = with_store([&] { return store->multiGet(keys); });
  std::vector<RankReport> ranks;
  const double now = steady_us();
  heard.resize(size, {0, now});
  for (int rank = 0; rank < size; ++rank) {
    ranks.push_back(
        rank_report_from_json({values[rank].begin(), values[rank].end()}));
    auto& [last_beat, since] = heard[rank];
    if (last_beat != ranks.back().beat) {
      last_beat = ranks.back().beat;
      since = now;
    }
  }
  tell_neighbours(ranks);
  const std::string told(values[size].begin(), values[size].end());
  const std::string notice(values[size + 1].begin(), values[size + 1].end());
  std::vector<const ModelFacts*> models;
  for (const RankReport& rank : ranks) models.push_back(&rank.facts);
  const auto differs = first_difference(models);
  std::lock_guard lock(mutex);
  if (differs) leaves_of = differs;
  pid_of_rank0 = ranks[0].pid;
  host_of_rank0 = ranks[0].host;
  if (told != verdict) take(told);
  if (!notice.empty() && notice != last_notice) {
    last_words = last_notice = notice;
    told_of_model = true;  // one is enough
  }
  if (launch.rank != 0 && !values[size + 2].empty()) over = true;
  all_have_heard = std::ranges::all_of(ranks, [](const RankReport& rank) {
    return rank.heard || rank.closed || rank.process != ProcessState::kAlive;
  });
  wake.notify_all();
  return ranks;
}

double Watch::State::silent_s(int rank) const {
  return (steady_us() - heard[rank].second) / 1e6;
}

// A process that does not speak: whoever shares its host looks at it.
void Watch::State::tell_neighbours(std::vector<RankReport>& ranks) {
  neighbours.clear();
  for (RankReport& rank : ranks) {
    if (rank.rank == launch.rank || rank.closed) continue;
    if (rank.host == launch.host) {
      rank.process = look_at_process(rank.pid);
      if (rank.process != ProcessState::kAlive) {
        neighbours.emplace_back(rank.rank, rank.process);
      }
    } else if (silent_s(rank.rank) > kSilentAfterS) {
      rank.process = ProcessState::kSilent;
    }
  }
  for (const RankReport& witness : ranks) {
    for (const auto& [rank, state] : witness.neighbours) {
      const bool fresh = silent_s(witness.rank) < kSilentAfterS;
      if (fresh && rank >= 0 && rank < size && rank != launch.rank &&
          !ranks[rank].closed) {
        ranks[rank].process = state;
      }
    }
  }
}

bool Watch::State::is_judge(const std::vector<RankReport>& ranks) const {
  for (int rank = 0; rank < launch.rank; ++rank) {
    if (ranks[rank].process == ProcessState::kAlive && !ranks[rank].over &&
        silent_s(rank) < kSilentAfterS) {
      return false;
    }
  }
  return true;
}

void Watch::State::judge_and_tell(const std::vector<RankReport>& ranks) {
  std::optional<Verdict> found = judge(ranks);
  if (!told_of_model) {
    std::vector<const ModelFacts*> models;
    for (const RankReport& rank : ranks) models.push_back(&rank.facts);
    if (const auto wrong = judge_model(models)) {
      told_of_model = true;  // the training goes on: it is its user's to end
      tell(notice_key, wrong->to_string());
    }
  }
  std::string before;
  {
    std::lock_guard lock(mutex);
    before = verdict;
  }
  if (!found && before.empty() && !told_of_speed) {
    if (const auto slow = judge_speed(ranks)) {
      told_of_speed = true;
      tell(notice_key, slow->to_string());
    }
  }
  if (found.has_value() != before.empty()) return;  // nothing new
  const std::string text = found ? found->to_string() : std::string();
  tell(verdict_key, text);
  std::lock_guard lock(mutex);
  take(text);
}

void Watch::State::tell(const std::string& key, const std::string& text) {
  if (options.prints) say(text.empty() ? "it goes on" : text);
  with_store([&] {
    store->set(key, text);
    return true;
  });
}

// Under the mutex.
void Watch::State::take(const std::string& text) {
  verdict = text;
  verdict_since_us = steady_us();
  if (!text.empty()) last_words = text;
  wake.notify_all();
}

// Rank 0 ends last, since the store may go with it, and not before what it has
// been told is judged.
void Watch::State::conclude(const std::vector<RankReport>& ranks) {
  constexpr int kRoundsForLeaves = 20;
  const auto gone = [](const RankReport& rank) {
    return rank.process != ProcessState::kAlive;
  };
  {
    std::lock_guard lock(mutex);
    if (!closed || launch.rank != 0) return;
    const auto is_closed = [&](const RankReport& rank) {
      return rank.closed || gone(rank);
    };
    if (!std::ranges::all_of(ranks, is_closed)) return;
    if (leaves_of && !told_of_model &&
        ++rounds_since_all_closed < kRoundsForLeaves) {
      return;
    }
  }
  if (!told_of_end) {
    with_store([&] {
      store->set(end_key, std::string("all have closed"));
      return true;
    });
    told_of_end = true;
  }
  const auto is_over = [&](const RankReport& rank) {
    return rank.rank == 0 || rank.over || gone(rank);
  };
  std::lock_guard lock(mutex);
  over = std::ranges::all_of(ranks, is_over);
}

// The training thread may hang in the backend for ever.
void Watch::State::end_if_hanging() {
  if (options.end_after_verdict_s <= 0) return;
  {
    std::lock_guard lock(mutex);
    if (verdict.empty() ||
        steady_us() - verdict_since_us < 1e6 * options.end_after_verdict_s) {
      return;
    }
  }
  std::fflush(nullptr);
  std::_Exit(1);
}

void Watch::State::watch_ranks() {
  try {
    while (true) {
      const std::string mine = report().to_json();
      with_store([&] {
        store->set(report_key(launch.rank), mine);
        return true;
      });
      const std::vector<RankReport> ranks = hear();
      if (is_judge(ranks)) judge_and_tell(ranks);
      conclude(ranks);
      end_if_hanging();
      std::unique_lock lock(mutex);
      wake.notify_all();
      if (ending || over) break;
      wake.wait_for(lock, closed ? kClosingPeriod : period);
    }
    store->set(report_key(launch.rank), report().to_json());  // the last word
  } catch (const std::exception&) {
    // The store is gone, and with it rank 0 or its launcher.
    store_is_stuck();
  }
}

void Watch::State::watch_store() {
  std::unique_lock lock(mutex);
  while (!ending) {
    wake.wait_for(lock, std::chrono::milliseconds(200));
    const double since = store_busy_since_us;
    if (since == 0 || steady_us() - since < 1e6 * kStoreStuckAfterS) continue;
    lock.unlock();
    store_is_stuck();
    lock.lock();
    while (!ending && store_busy_since_us == since) {
      lock.unlock();
      end_if_hanging();
      lock.lock();
      wake.wait_for(lock, std::chrono::milliseconds(200));
    }
  }
}

// Who holds the store does not answer, so that nobody can be asked: rank 1
// speaks.
void Watch::State::store_is_stuck() {
  std::string text;
  {
    std::lock_guard lock(mutex);
    if (ending || closed || !verdict.empty()) return;
    ProcessState state = ProcessState::kSilent;
    if (!launch.agent_store && host_of_rank0 == launch.host) {
      state = look_at_process(pid_of_rank0);
    }
    text = launch.agent_store
               ? std::string(
                     "process silent: the launcher, which serves the "
                     "store, does not answer")
               : fmt::format(
                     "process {}: rank 0 on {} (process {}), which "
                     "serves the store, does not answer",
                     to_string(state), host_of_rank0, pid_of_rank0);
    take(text);
  }
  if (launch.rank == 1 && options.prints) say(text);
}

}  // namespace dai::ddp
