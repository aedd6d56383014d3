// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/judge.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <map>

namespace dai::ddp {
namespace {

// Loading data and saving may take so long before they are a fault.
constexpr double kPatienceWithFilesS = 30;
constexpr double kTransportAfterS = 1;
// So many of its own steps may a rank compute before it is missed.
constexpr double kPatienceInSteps = 3;

using Reports = std::vector<RankReport>;

const Call* find_call(const RankReport& rank, std::uint64_t sequence) {
  const auto is_it = [&](const Call& call) {
    return call.event.sequence == sequence && !call.event.is_message();
  };
  const auto found = std::ranges::find_if(rank.calls, is_it);
  if (found != rank.calls.end()) return &*found;
  if (rank.current && is_it(*rank.current)) return &*rank.current;
  if (rank.last_finished && is_it(*rank.last_finished)) {
    return &*rank.last_finished;
  }
  return nullptr;
}

// Ranks that make the same call; the largest set first, then by lowest rank.
struct Party {
  const Call* call = nullptr;
  std::vector<int> ranks;
};

std::vector<Party> parties_at(const Reports& ranks, std::uint64_t sequence) {
  std::vector<Party> parties;
  for (const RankReport& rank : ranks) {
    const Call* const call = find_call(rank, sequence);
    if (call == nullptr) continue;
    const auto same = std::ranges::find_if(parties, [&](const Party& party) {
      return party.call->signature() == call->signature();
    });
    if (same != parties.end()) {
      same->ranks.push_back(rank.rank);
    } else {
      parties.push_back({call, {rank.rank}});
    }
  }
  std::ranges::stable_sort(parties, std::greater{}, [](const Party& party) {
    return party.ranks.size();
  });
  return parties;
}

// The identities of the step before `step`, if `rank` has told it whole.
std::vector<std::string> order_told_by(const RankReport& rank,
                                       std::int64_t step) {
  std::vector<std::string> order;
  bool whole = false;  // something older is known: it was not cut off
  for (const Call& call : rank.calls) {
    if (call.event.is_message() || call.step < 0) continue;
    if (call.step < step - 1) whole = true;
    if (call.step == step - 1) order.push_back(call.identity());
  }
  if (!whole && step > 1) return {};
  return order;
}

// What a rank that is stopped or dead told last is of an earlier time.
std::string last_common(const Reports& ranks) {
  const RankReport* slowest = nullptr;
  for (const RankReport& rank : ranks) {
    if (rank.process != ProcessState::kAlive) continue;
    if (!slowest || rank.finished < slowest->finished) slowest = &rank;
  }
  return slowest && slowest->last_finished
             ? "last finished by all: " + slowest->last_finished->to_string()
             : "no collective was finished by all";
}

std::vector<std::string> usual_order(const Reports& ranks, const Party& party) {
  for (const int rank : party.ranks) {
    auto order = order_told_by(ranks[rank], party.call->step);
    if (!order.empty()) return order;
  }
  return {};
}

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

std::vector<std::string> describe_parties(const std::vector<Party>& parties) {
  std::vector<std::string> lines;
  for (const Party& party : parties) {
    lines.push_back(fmt::format("{}: {}", name_ranks(party.ranks),
                                party.call->to_string()));
  }
  return lines;
}

std::int64_t index_of(const std::vector<std::string>& order,
                      const std::string& identity, std::int64_t from) {
  for (std::int64_t k = from; k < std::ssize(order); ++k) {
    if (order[k] == identity) return k;
  }
  return -1;
}

struct Finding {
  VerdictKind kind;
  std::string what;  // "has left out"; the call follows
};

VerdictKind kind_of_field(const std::string& field) {
  if (field == "dtype") return VerdictKind::kDtype;
  if (field == "reduce op") return VerdictKind::kReduceOp;
  if (field == "root") return VerdictKind::kRoot;
  if (field == "subject") return VerdictKind::kSwappedOrder;
  return VerdictKind::kShape;
}

Finding compare(const Reports& ranks, const Party& most, const Party& odd) {
  const Call& theirs = *most.call;
  const Call& its = *odd.call;
  const RankReport& rank = ranks[odd.ranks.front()];
  if (is_closing(its.event)) {
    return {VerdictKind::kInputsExhausted,
            "has ended its training, and does not come to"};
  }
  if (is_closing(theirs.event)) {
    return {VerdictKind::kInputsExhausted,
            "goes on where the others have ended their training, in"};
  }
  if (its.step > theirs.step)
    return {VerdictKind::kSkippedCall, "has left out"};
  if (its.step < theirs.step) {
    return {VerdictKind::kExtraCall,
            "makes one call more than the others, before"};
  }
  const auto fields = differences(its, theirs);
  const bool same_place = its.event.where == theirs.event.where;
  if (its.event.op == theirs.event.op && same_place) {
    const VerdictKind kind = kind_of_field(fields.front());
    // A loop over parameters, in another order: both calls are usual.
    const Call* const next = find_call(rank, its.event.sequence + 1);
    const auto order = usual_order(ranks, most);
    const bool swapped = next && next->identity() == theirs.identity();
    if (!swapped && index_of(order, its.identity(), 0) < 0) {
      return {kind, fmt::format("differs in {} from", fields.front())};
    }
    return {VerdictKind::kSwappedOrder, "makes another call first than"};
  }
  const Call* const next = find_call(rank, its.event.sequence + 1);
  if (next && next->identity() == theirs.identity()) {
    return {VerdictKind::kSwappedOrder, "makes another call first than"};
  }
  const auto order = usual_order(ranks, most);
  const std::int64_t usual = index_of(order, theirs.identity(), 0);
  if (usual >= 0) {
    if (index_of(order, its.identity(), usual + 1) >= 0) {
      return same_place ? Finding{VerdictKind::kSwappedOrder,
                                  "makes another call first than"}
                        : Finding{VerdictKind::kSkippedCall, "has left out"};
    }
    if (index_of(order, its.identity(), 0) >= 0) {
      return {VerdictKind::kExtraCall,
              "makes one call more than the others, before"};
    }
  }
  return {VerdictKind::kBranch, "takes a branch that the others do not, at"};
}

// Two ranks are at calls of one number that do not match.
std::optional<Verdict> judge_mismatch(const Reports& ranks) {
  const bool refused =
      std::ranges::any_of(ranks, [](const auto& r) { return r.refused(); });
  if (!refused) return std::nullopt;
  std::uint64_t first = std::numeric_limits<std::uint64_t>::max();
  double since_s = 0;
  for (const RankReport& rank : ranks) {
    if (!rank.refused()) continue;
    first = std::min(first, rank.current->event.sequence);
    since_s = std::max(since_s, rank.waiting_s);
  }
  const auto parties = parties_at(ranks, first);
  std::size_t known = 0;
  for (const Party& party : parties) known += party.ranks.size();
  // Until those who come have come, and said what they call next.
  const double patience_s = known == ranks.size() ? 0.5 : 1.0;
  if (parties.size() < 2 || since_s < patience_s) return std::nullopt;
  Verdict verdict;
  for (std::size_t k = 1; k < parties.size(); ++k) {
    verdict.ranks.insert(verdict.ranks.end(), parties[k].ranks.begin(),
                         parties[k].ranks.end());
  }
  std::ranges::sort(verdict.ranks);
  const Finding finding = compare(ranks, parties[0], parties[1]);
  verdict.kind = finding.kind;
  verdict.sentence = fmt::format("{} {} {}", name_ranks(verdict.ranks),
                                 finding.what, parties[0].call->to_string());
  verdict.details = describe_parties(parties);
  verdict.details.push_back(last_common(ranks));
  return verdict;
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
    if (!rank.held_up() || rank.process != ProcessState::kAlive) continue;
    if (rank.current->event.sequence < first) {
      first = rank.current->event.sequence;
      waiting = &rank;
    }
  }
  // A dead process is a fault even before anybody waits for it.
  if (!waiting && std::ranges::none_of(ranks, is_dead)) return std::nullopt;
  if (waiting && waiting->current->event.is_message()) return std::nullopt;

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
      waiting ? waiting->current->to_string() : std::string("any call");
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
    verdict.sentence =
        fmt::format("{} {} not come to {}", name_ranks(verdict.ranks),
                    verdict.ranks.size() == 1 ? "does" : "do", call);
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

const char* to_string(VerdictKind kind) {
  switch (kind) {
    case VerdictKind::kSkippedCall:
      return "skipped call";
    case VerdictKind::kExtraCall:
      return "extra call";
    case VerdictKind::kSwappedOrder:
      return "swapped order";
    case VerdictKind::kShape:
      return "shape";
    case VerdictKind::kDtype:
      return "dtype";
    case VerdictKind::kReduceOp:
      return "reduce operation";
    case VerdictKind::kRoot:
      return "root";
    case VerdictKind::kBranch:
      return "rank-dependent branch";
    case VerdictKind::kInputsExhausted:
      return "inputs exhausted";
    case VerdictKind::kProcessDead:
      return "process dead";
    case VerdictKind::kProcessStopped:
      return "process stopped";
    case VerdictKind::kProcessSilent:
      return "process silent";
    case VerdictKind::kRankFailed:
      return "rank failed";
    case VerdictKind::kUnusedParameter:
      return "unused parameter";
    case VerdictKind::kRankAbsent:
      return "rank absent";
    case VerdictKind::kTransport:
      return "transport";
    case VerdictKind::kSlowRank:
      return "slow rank";
    case VerdictKind::kDrift:
      return "parameter drift";
    case VerdictKind::kInitialisation:
      return "different initialisation";
    case VerdictKind::kOverlappingData:
      return "overlapping data";
    case VerdictKind::kNan:
      return "NaN";
  }
  return "unknown";
}

std::string name_ranks(const std::vector<int>& ranks) {
  return fmt::format("rank{} {}", ranks.size() == 1 ? "" : "s",
                     fmt::join(ranks, ", "));
}

std::string Verdict::to_string() const {
  std::string text = fmt::format("{}: {}", ddp::to_string(kind), sentence);
  for (const std::string& line : details) text += "\n  " + line;
  return text;
}

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
