// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/judge_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace dai::ddp {
namespace {

using Ranks = std::vector<const ModelFacts*>;

// Ranks by what they have: the largest set first, then by lowest rank.
std::vector<std::pair<std::uint64_t, std::vector<int>>> sets_of(
    const std::vector<std::uint64_t>& values) {
  std::vector<std::pair<std::uint64_t, std::vector<int>>> sets;
  for (int rank = 0; rank < std::ssize(values); ++rank) {
    const auto same = std::ranges::find_if(
        sets, [&](const auto& set) { return set.first == values[rank]; });
    if (same != sets.end()) {
      same->second.push_back(rank);
    } else {
      sets.push_back({values[rank], {rank}});
    }
  }
  std::ranges::stable_sort(sets, std::greater{},
                           [](const auto& set) { return set.second.size(); });
  return sets;
}

// All of them where no set is the largest.
std::vector<int> odd_ranks(const std::vector<std::uint64_t>& values) {
  std::vector<int> odd;
  const auto sets = sets_of(values);
  if (sets.size() > 1 && sets[0].second.size() == sets[1].second.size()) {
    odd = sets[0].second;
  }
  for (std::size_t k = 1; k < sets.size(); ++k) {
    odd.insert(odd.end(), sets[k].second.begin(), sets[k].second.end());
  }
  std::ranges::sort(odd);
  return odd;
}

std::string list_some(const std::vector<std::string>& names, std::size_t all) {
  constexpr std::size_t kMost = 3;
  std::string text;
  for (std::size_t k = 0; k < std::min(kMost, names.size()); ++k) {
    text += (k ? ", " : "") + names[k];
  }
  if (names.size() > kMost) {
    text += fmt::format(" and {} more", names.size() - kMost);
  }
  return fmt::format("{} ({} of {} parameters)", text, names.size(), all);
}

std::optional<Verdict> judge_weights(const Ranks& ranks) {
  const auto step = first_difference(ranks);
  if (!step) return std::nullopt;
  std::vector<const WeightsCheck*> checks;
  for (const ModelFacts* facts : ranks) {
    checks.push_back(facts->check_of(*step));
    if (checks.back()->leaves.empty() ||
        checks.back()->leaves.size() != ranks[0]->parameters.size()) {
      return std::nullopt;  // not told yet
    }
  }
  Verdict verdict;
  std::vector<std::uint64_t> roots;
  for (const WeightsCheck* check : checks) roots.push_back(check->root);
  verdict.ranks = odd_ranks(roots);
  std::vector<std::string> differing;
  for (std::size_t k = 0; k < ranks[0]->parameters.size(); ++k) {
    std::vector<std::uint64_t> leaves;
    for (const WeightsCheck* check : checks) leaves.push_back(check->leaves[k]);
    if (!odd_ranks(leaves).empty()) {
      differing.push_back(ranks[0]->parameters[k]);
    }
  }
  const bool from_the_start = ranks[0]->checks.front().step == *step;
  std::int64_t last_equal = -1;
  for (const WeightsCheck& check : ranks[0]->checks) {
    if (check.step < *step) last_equal = check.step;
  }
  verdict.kind =
      from_the_start ? VerdictKind::kInitialisation : VerdictKind::kDrift;
  verdict.sentence = fmt::format(
      "before step {}, {} {} weights in {}", *step, name_ranks(verdict.ranks),
      verdict.ranks.size() == ranks.size() ? "have different"
      : verdict.ranks.size() == 1          ? "has other"
                                           : "have other",
      list_some(differing, ranks[0]->parameters.size()));
  if (!from_the_start) {
    verdict.details.push_back(
        fmt::format("before step {} they were equal", last_equal));
  }
  return verdict;
}

std::optional<Verdict> judge_data(const Ranks& ranks) {
  for (const StepData& first : ranks[0]->data) {
    std::map<std::uint64_t, int> owner;
    for (int rank = 0; rank < std::ssize(ranks); ++rank) {
      const auto its =
          std::ranges::find(ranks[rank]->data, first.step, &StepData::step);
      if (its == ranks[rank]->data.end()) continue;
      for (const std::uint64_t fingerprint : its->fingerprints) {
        const auto [at, is_new] = owner.emplace(fingerprint, rank);
        if (is_new || at->second == rank) continue;
        Verdict verdict;
        verdict.kind = VerdictKind::kOverlappingData;
        verdict.ranks = {at->second, rank};
        verdict.sentence = fmt::format("{} train on the same data in step {}",
                                       name_ranks(verdict.ranks), first.step);
        return verdict;
      }
    }
  }
  return std::nullopt;
}

std::optional<Verdict> judge_nan(const Ranks& ranks) {
  Verdict verdict;
  const NanFound* first = nullptr;
  for (int rank = 0; rank < std::ssize(ranks); ++rank) {
    const auto& nan = ranks[rank]->nan;
    if (!nan || (first && first->step <= nan->step)) continue;
    first = &*nan;
    verdict.ranks = {rank};
  }
  if (!first) return std::nullopt;
  // A step later all have it: who has not told of this step may be the first.
  for (const ModelFacts* facts : ranks) {
    if (facts->loss_seen < first->step) return std::nullopt;
  }
  verdict.kind = VerdictKind::kNan;
  verdict.sentence =
      fmt::format("the loss of {} is not finite in step {}: {}",
                  name_ranks(verdict.ranks), first->step, first->where);
  return verdict;
}

}  // namespace

std::optional<Verdict> judge_model(const Ranks& ranks) {
  if (ranks.size() < 2) return std::nullopt;
  if (auto verdict = judge_nan(ranks)) return verdict;
  if (auto verdict = judge_weights(ranks)) return verdict;
  return judge_data(ranks);
}

}  // namespace dai::ddp
