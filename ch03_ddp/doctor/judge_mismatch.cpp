// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/judge_mismatch.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <utility>

namespace dai::ddp {
namespace {

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

// Ranks that make the same call.
struct Party {
  const Call* call = nullptr;
  std::vector<int> ranks;
  bool as_usual = false;
};

// A rank's collectives before number `before`, by step, as identities.
std::map<std::int64_t, std::vector<std::string>> steps_of(
    const RankReport& rank, std::uint64_t before) {
  std::map<std::int64_t, std::vector<std::string>> steps;
  for (const Call& call : rank.calls) {
    if (call.event.is_message() || call.step < 0) continue;
    if (call.event.sequence < before) {
      steps[call.step].push_back(call.identity());
    }
  }
  return steps;
}

// The identities of the step before `step`, as `rank` tells it; empty where it
// does not tell all of it.
std::vector<std::string> order_told_by(const RankReport& rank,
                                       std::int64_t step) {
  const auto steps = steps_of(rank, UINT64_MAX);
  const auto found = steps.find(step - 1);
  if (found == steps.end()) return {};
  // The oldest one that is known may be cut off.
  if (found == steps.begin() && step > 1) return {};
  return found->second;
}

// Whether `call` is what `rank` has called at this place of its steps before,
// and the steps in between had as many calls as ever.
bool is_as_usual(const RankReport& rank, const Call& call,
                 std::int64_t first_step) {
  const auto order = order_told_by(rank, first_step);
  if (order.empty()) return false;
  auto steps = steps_of(rank, call.event.sequence);
  for (std::int64_t step = first_step; step < call.step; ++step) {
    if (steps[step].size() != order.size()) return false;
  }
  const std::size_t place = steps[call.step].size();
  return place < order.size() && order[place] == call.identity();
}

// The largest first; of equal ones those first who do as they have always done,
// then by lowest rank.
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
      parties.push_back({call, {rank.rank}, false});
    }
  }
  std::int64_t first_step = INT64_MAX;
  for (const Party& party : parties) {
    first_step = std::min(first_step, party.call->step);
  }
  for (Party& party : parties) {
    party.as_usual = std::ranges::any_of(party.ranks, [&](int rank) {
      return is_as_usual(ranks[rank], *party.call, first_step);
    });
  }
  std::ranges::stable_sort(parties, std::greater{}, [](const Party& party) {
    return std::pair(party.ranks.size(), party.as_usual);
  });
  return parties;
}

std::vector<std::string> usual_order(const Reports& ranks, const Party& party) {
  for (const int rank : party.ranks) {
    auto order = order_told_by(ranks[rank], party.call->step);
    if (!order.empty()) return order;
  }
  return {};
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
  const Call* const next = find_call(rank, its.event.sequence + 1);
  const bool comes_next = next && next->step == theirs.step &&
                          next->identity() == theirs.identity();
  const auto fields = differences(its, theirs);
  const bool same_place = its.event.where == theirs.event.where;
  const bool same_subject = its.event.subject == theirs.event.subject;
  const auto order = usual_order(ranks, most);
  const std::int64_t usual = index_of(order, theirs.identity(), 0);
  const bool is_usual = index_of(order, its.identity(), 0) >= 0;
  if (its.event.op == theirs.event.op && same_place && same_subject &&
      !comes_next && !is_usual) {
    return {kind_of_field(fields.front()),
            fmt::format("differs in {} from", fields.front())};
  }
  if (comes_next) {
    return {VerdictKind::kSwappedOrder, "makes another call first than"};
  }
  if (usual < 0) return {VerdictKind::kOtherCall, "makes another call than"};
  if (index_of(order, its.identity(), usual + 1) >= 0) {
    return same_place ? Finding{VerdictKind::kSwappedOrder,
                                "makes another call first than"}
                      : Finding{VerdictKind::kSkippedCall, "has left out"};
  }
  if (is_usual) {
    return {VerdictKind::kExtraCall,
            "makes one call more than the others, before"};
  }
  return {VerdictKind::kBranch, "takes a branch that the others do not, at"};
}

}  // namespace

std::string last_common(const Reports& ranks) {
  // What a rank that is stopped or dead told last is of an earlier time.
  std::uint64_t number = UINT64_MAX;
  for (const RankReport& rank : ranks) {
    if (rank.process != ProcessState::kAlive) continue;
    number = std::min(number, rank.finished);
  }
  if (number == 0 || number == UINT64_MAX) {
    return "no collective was finished by all";
  }
  for (const RankReport& rank : ranks) {
    if (const Call* const call = find_call(rank, number)) {
      return "last finished by all: " + call->to_string();
    }
  }
  return fmt::format("finished by all: {} collectives", number);
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
  const bool nobody_knows =
      parties[0].ranks.size() == parties[1].ranks.size() &&
      parties[0].as_usual == parties[1].as_usual;
  verdict.kind = finding.kind;
  verdict.sentence = fmt::format("{} {} {}", name_ranks(verdict.ranks),
                                 finding.what, parties[0].call->to_string());
  if (nobody_knows) {
    verdict.sentence += ", or the other way round";
    verdict.ranks.insert(verdict.ranks.end(), parties[0].ranks.begin(),
                         parties[0].ranks.end());
    std::ranges::sort(verdict.ranks);
  }
  verdict.details = describe_parties(parties);
  verdict.details.push_back(last_common(ranks));
  return verdict;
}

}  // namespace dai::ddp
