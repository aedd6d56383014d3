// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/watch_state.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

#include "ch03_ddp/doctor/flight_recorder.h"
#include "ch03_ddp/doctor/judge.h"
#include "ch03_ddp/doctor/judge_model.h"
#include "common/torch/process_group.h"

namespace dai::ddp {
namespace {

constexpr double kStoreStuckAfterS = 1.5;  // in one conversation with it
constexpr double kCallsToldAfterS = 0.2;
constexpr std::size_t kCallsTold = 256;
constexpr std::size_t kRecent = 31;
constexpr std::chrono::milliseconds kClosingPeriod{10};
constexpr double kSilentPeriods = 3;

// Each watch of a process has keys of its own; constructors are collective, so
// that the ranks count alike.
std::string next_name() {
  static std::atomic<int> watches = 0;
  return fmt::format("watch/{}", watches++);
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

// Of a stall: "rank absent: rank 2 does". Those who wait may have come to
// another call by now.
std::string who_and_what(const std::string& text) {
  const std::string line = first_line(text);
  return line.substr(0, line.find(" not come to "));
}

// The kind: what is before the colon.
std::string first_word(const std::string& text) {
  return text.substr(0, text.find(':'));
}

bool may_pass(const std::string& kind) {
  using enum VerdictKind;
  return std::ranges::any_of(
      std::array{kProcessStopped, kProcessSilent, kRankAbsent, kTransport},
      [&](VerdictKind one) { return kind == to_string(one); });
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
      period(std::max(100, 10 * group.size())),
      silent_after_s(
          std::max(1.0, 4e-3 * static_cast<double>(period.count()))) {
  if (options.flight_recorder.empty()) return;
  write_flight_recorder(options.flight_recorder, {}, recorder_group());
}

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
  report.heard = !verdict.empty();
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
  keys.insert(keys.end(), {verdict_key, speed_key, model_key, end_key});
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
  const auto text_of = [&](int at) {
    return std::string(values[at].begin(), values[at].end());
  };
  std::vector<const ModelFacts*> models;
  for (const RankReport& rank : ranks) models.push_back(&rank.facts);
  const auto differs = first_difference(models);
  std::lock_guard lock(mutex);
  if (differs) leaves_of = differs;
  pid_of_rank0 = ranks[0].pid;
  host_of_rank0 = ranks[0].host;
  closed_of_rank0 = ranks[0].closed;
  if (text_of(size) != verdict) take(text_of(size));
  take_notice(speed_notice, text_of(size + 1));
  take_notice(model_notice, text_of(size + 2));
  if (launch.rank != 0 && !text_of(size + 3).empty()) over = true;
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
    // Who speaks is alive, whatever /proc says: it may be another container's.
    if (silent_s(rank.rank) < kSilentPeriods * 1e-3 * period.count()) continue;
    if (rank.host == launch.host) {
      rank.process = look_at_process(rank.pid);
      if (rank.process != ProcessState::kAlive) {
        neighbours.emplace_back(rank.rank, rank.process);
      }
    } else if (silent_s(rank.rank) > silent_after_s) {
      rank.process = ProcessState::kSilent;
    }
  }
  for (const RankReport& witness : ranks) {
    for (const auto& [rank, state] : witness.neighbours) {
      const bool fresh = silent_s(witness.rank) < silent_after_s;
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
        silent_s(rank) < silent_after_s) {
      return false;
    }
  }
  return true;
}

void Watch::State::judge_and_tell(const std::vector<RankReport>& ranks) {
  std::optional<Verdict> found = judge(ranks);
  std::vector<const ModelFacts*> models;
  for (const RankReport& rank : ranks) models.push_back(&rank.facts);
  std::string before, model, speed;
  {
    std::lock_guard lock(mutex);
    before = verdict;
    model = model_notice;
    speed = speed_notice;
  }
  // The training goes on: it is its user's to end. One of a kind is enough.
  const auto wrong = judge_model(models);
  if (wrong && first_word(wrong->to_string()) != first_word(model)) {
    tell(model_key, wrong->to_string());
    std::lock_guard lock(mutex);
    take_notice(model_notice, wrong->to_string());
    leaves_of.reset();
  }
  const auto slow = judge_speed(ranks);
  if (slow && !found && before.empty() && speed.empty()) {
    tell(speed_key, slow->to_string());
    std::lock_guard lock(mutex);
    take_notice(speed_notice, slow->to_string());
  }
  // A stall may pass, or turn out to be another one (of kind, ranks or call,
  // and not of how long they have waited). After any other verdict the training
  // falls apart, and what follows is no news.
  if (!before.empty() && !may_pass(first_word(before))) return;
  const std::string text = found ? found->to_string() : std::string();
  if (who_and_what(text) == who_and_what(before)) return;
  tell(verdict_key, text);
  std::lock_guard lock(mutex);
  take(text);
}

// Under the mutex.
void Watch::State::take_notice(std::string& notice, const std::string& text) {
  if (text.empty() || text == notice) return;
  notice = last_words = text;
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
  record_due = !text.empty();
  wake.notify_all();
}

void Watch::State::record() {
  if (options.flight_recorder.empty()) return;
  try {
    write_flight_recorder(options.flight_recorder, log.last(kCallsKept),
                          recorder_group());
  } catch (const std::exception& error) {
    spdlog::warn("flight recorder: {}", error.what());
  }
}

RecorderGroup Watch::State::recorder_group() const {
  return {.rank = launch.rank, .ranks = size, .name = "world"};
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
    if (leaves_of && ++rounds_since_all_closed < kRoundsForLeaves) return;
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
      tell_what_was_said();
      const std::vector<RankReport> ranks = hear();
      if (is_judge(ranks)) judge_and_tell(ranks);
      conclude(ranks);
      if (record_due.exchange(false)) record();
      end_if_hanging();
      std::unique_lock lock(mutex);
      wake.notify_all();
      if (ending || over) break;
      wake.wait_for(lock, closed ? kClosingPeriod : period);
    }
    const std::string last_word = report().to_json();
    with_store([&] {
      store->set(report_key(launch.rank), last_word);
      return true;
    });
  } catch (const c10::Error&) {
    // The store is gone, and with it rank 0 or its launcher.
    store_is_stuck();
  } catch (const std::exception& error) {
    say(fmt::format("rank {} watches no more: {}", launch.rank, error.what()));
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

// The store answers again: what rank 1 has said alone, all ranks hear now.
void Watch::State::tell_what_was_said() {
  std::string text;
  {
    std::lock_guard lock(mutex);
    if (launch.rank == 1) text = std::exchange(said_of_store, {});
  }
  if (text.empty()) return;
  with_store([&] {
    store->set(model_key, text);
    return true;
  });
  if (options.prints) say("it goes on");
}

// Who holds the store does not answer, so that nobody can be asked: rank 1
// speaks.
void Watch::State::store_is_stuck() {
  std::string text;
  {
    std::lock_guard lock(mutex);
    if (ending || closed || closed_of_rank0 || !verdict.empty()) return;
    ProcessState state = ProcessState::kSilent;
    if (!launch.agent_store && host_of_rank0 == launch.host) {
      state = look_at_process(pid_of_rank0);
      if (state == ProcessState::kAlive) state = ProcessState::kSilent;
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
    said_of_store = text;
  }
  if (launch.rank == 1 && options.prints) say(text);
}

}  // namespace dai::ddp
