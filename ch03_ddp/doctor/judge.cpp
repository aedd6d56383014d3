// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <string>

#include "ch03_ddp/doctor/judge_mismatch.h"

namespace dai::ddp {
namespace {

// Loading data and saving may take so long before they are a fault.
constexpr double kPatienceWithFilesS = 30;
constexpr double kTransportAfterS = 1;
// So many of its own steps may a rank compute before it is missed.
constexpr double kPatienceInSteps = 3;

using Reports = std::vector<RankReport>;

std::string describe(const RankReport& rank) {
  std::string text = rank.current           ? rank.current->to_string()
                     : rank.closed          ? "has left the group"
                     : rank.failure.empty() ? "in no collective"
                                            : "failed: " + rank.failure;
  if (!rank.current && rank.failure.empty() && !rank.closed) {
    if (rank.step >= 0) text += fmt::format(", step {}", rank.step);
    if (!rank.phase.empty()) {
      text += fmt::format(", {} for {:.1f} s", rank.phase, rank.phase_s);
    }
    if (rank.last_finished) {
      text += ", after " + rank.last_finished->to_string();
    }
  }
  return text;
}

// A rank that leaves with an exception of its own; those of the others, whose
// collectives then break, follow from it.
std::optional<Verdict> judge_failure(const Reports& ranks) {
  for (const RankReport& rank : ranks) {
    if (rank.failure.empty() || rank.failed_in_call) continue;
    Verdict verdict;
    verdict.ranks = {rank.rank};
    // The words of describe_unreached().
    const bool unused =
        rank.failure.find("got no gradient") != std::string::npos;
    verdict.kind =
        unused ? VerdictKind::kUnusedParameter : VerdictKind::kRankFailed;
    verdict.sentence =
        fmt::format("rank {} leaves: {}", rank.rank, rank.failure);
    if (rank.last_finished) {
      verdict.details.push_back(fmt::format("rank {}: step {}, after {}",
                                            rank.rank, rank.step,
                                            rank.last_finished->to_string()));
    }
    for (const RankReport& other : ranks) {
      if (other.rank == rank.rank || !other.current) continue;
      verdict.details.push_back(fmt::format("rank {} is in {}", other.rank,
                                            other.current->to_string()));
    }
    return verdict;
  }
  return std::nullopt;
}

bool is_dead(const RankReport& rank) {
  return rank.process == ProcessState::kDead && !rank.closed;
}

std::optional<Verdict> judge_stall(const Reports& ranks) {
  std::uint64_t first = std::numeric_limits<std::uint64_t>::max();
  const RankReport* waiting = nullptr;
  for (const RankReport& rank : ranks) {
    if (!rank.held_up() || rank.process != ProcessState::kAlive ||
        rank.current->event.is_message()) {
      continue;
    }
    if (rank.current->event.sequence < first) {
      first = rank.current->event.sequence;
      waiting = &rank;
    }
  }
  // A dead process is a fault even before anybody waits for it.
  if (!waiting && std::ranges::none_of(ranks, is_dead)) return std::nullopt;

  std::map<VerdictKind, std::vector<int>> missing;
  bool patience = false;
  for (const RankReport& rank : ranks) {
    if (rank.process == ProcessState::kDead) {
      if (!rank.closed) missing[VerdictKind::kProcessDead].push_back(rank.rank);
      continue;
    }
    if (!waiting) continue;
    const bool behind = rank.issued < first;
    if (rank.process == ProcessState::kStopped) {
      missing[VerdictKind::kProcessStopped].push_back(rank.rank);
    } else if (rank.process == ProcessState::kSilent) {
      missing[VerdictKind::kProcessSilent].push_back(rank.rank);
    } else if (!behind) {
      continue;
    } else if (rank.closed || rank.phase == "done") {
      missing[VerdictKind::kInputsExhausted].push_back(rank.rank);
    } else if (rank.phase == "paused") {
      patience = true;
    } else if ((rank.phase == "data" || rank.phase == "save") &&
               rank.phase_s < kPatienceWithFilesS) {
      patience = true;
    } else if (waiting->waiting_s < kPatienceInSteps * rank.step_ms / 1e3) {
      patience = true;  // it may be at work
    } else {
      missing[VerdictKind::kRankAbsent].push_back(rank.rank);
    }
  }
  if (missing.empty() && patience) return std::nullopt;
  // Of the reports, the one who came last may be the newest.
  const auto waits_too = [&](const RankReport& rank) {
    return rank.current && rank.current->event.sequence == first &&
           rank.waiting_s > kTransportAfterS;
  };
  if (missing.empty() && !std::ranges::all_of(ranks, waits_too)) {
    return std::nullopt;
  }
  Verdict verdict;
  const std::string call =
      waiting ? waiting->current->to_string() : std::string();
  if (missing.empty()) {
    verdict.kind = VerdictKind::kTransport;
    verdict.sentence =
        fmt::format("all ranks have come to {}, and it does not end", call);
  } else {
    // The hardest cause first: a dead rank makes others fail.
    static constexpr VerdictKind kOrder[] = {
        VerdictKind::kProcessDead, VerdictKind::kProcessStopped,
        VerdictKind::kInputsExhausted, VerdictKind::kProcessSilent,
        VerdictKind::kRankAbsent};
    for (const VerdictKind kind : kOrder) {
      if (!missing.contains(kind)) continue;
      verdict.kind = kind;
      verdict.ranks = missing[kind];
      break;
    }
    const bool one = verdict.ranks.size() == 1;
    verdict.sentence =
        waiting ? fmt::format("{} {} not come to {}", name_ranks(verdict.ranks),
                              one ? "does" : "do", call)
                : fmt::format("{} {} gone", name_ranks(verdict.ranks),
                              one ? "is" : "are");
    for (const int odd : verdict.ranks) {
      const RankReport& rank = ranks[odd];
      const std::string state = rank.process == ProcessState::kAlive
                                    ? std::string()
                                    : fmt::format(" on {} is {};", rank.host,
                                                  to_string(rank.process));
      verdict.details.push_back(
          fmt::format("rank {} (process {}){} {}", odd, rank.pid, state,
                      rank.process == ProcessState::kAlive
                          ? describe(rank)
                          : "last heard: " + describe(rank)));
    }
  }
  std::vector<int> waiters;
  double longest = 0;
  for (const RankReport& rank : ranks) {
    if (rank.current && rank.current->event.sequence == first) {
      waiters.push_back(rank.rank);
      longest = std::max(longest, rank.waiting_s);
    }
  }
  if (waiting) {
    verdict.details.push_back(
        fmt::format("{} wait{} there for {:.1f} s", name_ranks(waiters),
                    waiters.size() == 1 ? "s" : "", longest));
  }
  verdict.details.push_back(last_common(ranks));
  return verdict;
}

}  // namespace

std::optional<Verdict> judge(const Reports& ranks) {
  if (auto verdict = judge_mismatch(ranks)) return verdict;
  // Others fail because of it.
  const bool death = std::ranges::any_of(ranks, is_dead);
  if (!death) {
    if (auto verdict = judge_failure(ranks)) return verdict;
  }
  return judge_stall(ranks);
}

std::optional<Verdict> judge_speed(const Reports& ranks, double least_share) {
  constexpr std::int64_t kLeastSteps = 10;
  constexpr double kLeastMs = 20;  // below, it is the scheduler
  if (ranks.size() < 2) return std::nullopt;
  std::vector<double> waited;
  double step_ms = 0;
  for (const RankReport& rank : ranks) {
    if (rank.steps_timed < kLeastSteps) return std::nullopt;
    waited.push_back(rank.waited_ms);
    step_ms = std::max(step_ms, rank.step_ms);
  }
  // Whoever comes last to every meeting waits least there.
  const auto slowest = std::ranges::min_element(waited);
  std::vector<double> sorted = waited;
  std::ranges::sort(sorted);
  const double lost = sorted[1] - sorted[0];
  if (lost < std::max(kLeastMs, least_share * step_ms)) return std::nullopt;
  const int rank = static_cast<int>(slowest - waited.begin());
  Verdict verdict;
  verdict.kind = VerdictKind::kSlowRank;
  verdict.ranks = {rank};
  verdict.sentence = fmt::format(
      "the others wait for rank {} in every step: {:.0f} of {:.0f} ms, {:.0f} "
      "%",
      rank, lost, step_ms, 100 * lost / step_ms);
  for (const RankReport& one : ranks) {
    verdict.details.push_back(
        fmt::format("rank {} on {}: {:.0f} of {:.0f} ms of a step in "
                    "collectives",
                    one.rank, one.host, one.waited_ms, one.step_ms));
  }
  return verdict;
}

}  // namespace dai::ddp
