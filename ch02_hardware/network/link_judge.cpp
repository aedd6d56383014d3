// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/network/link_judge.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

namespace dai::hardware {

LinkVerdict judge_links(const std::vector<std::vector<double>>& bandwidth,
                        const std::vector<int>& nodes,
                        const std::vector<std::string>& names,
                        bool judge_within_nodes, double threshold) {
  struct Pair {
    int a, b;
    double speed;
    bool across, slow = false;
  };
  std::vector<Pair> pairs;
  const int ranks = static_cast<int>(nodes.size());
  double best[2] = {0, 0};  // within nodes, across
  int of_kind[2] = {0, 0};
  for (int a = 0; a < ranks; ++a) {
    for (int b = a + 1; b < ranks; ++b) {
      const bool across = nodes[a] != nodes[b];
      if (!across && !judge_within_nodes) continue;
      const double speed = std::min(bandwidth[a][b], bandwidth[b][a]);
      pairs.push_back({a, b, speed, across});
      best[pairs.back().across] = std::max(best[pairs.back().across], speed);
      ++of_kind[pairs.back().across];
    }
  }
  LinkVerdict verdict;
  for (Pair& pair : pairs) {
    const double ratio =
        best[pair.across] > 0 ? pair.speed / best[pair.across] : 1;
    verdict.worst_ratio = std::min(verdict.worst_ratio, ratio);
    pair.slow = ratio < threshold;
  }
  // A node is to blame when all its pairs across are slow, and when without
  // such nodes something fast is left to compare with, as there is.
  const std::set<int> all_nodes(nodes.begin(), nodes.end());
  for (const int node : all_nodes) {
    bool any = false, all = true;
    for (const Pair& pair : pairs) {
      if (!pair.across || (nodes[pair.a] != node && nodes[pair.b] != node)) {
        continue;
      }
      any = true;
      all = all && pair.slow;
    }
    if (any && all) verdict.slow_nodes.push_back(node);
  }
  const auto explained = [&](const Pair& pair) {
    const auto slow = [&](int rank) {
      return std::count(verdict.slow_nodes.begin(), verdict.slow_nodes.end(),
                        nodes[rank]) > 0;
    };
    return pair.across && (slow(pair.a) || slow(pair.b));
  };
  std::vector<std::string> sentences;
  for (const int node : verdict.slow_nodes) {
    double speed = 0;
    for (const Pair& pair : pairs) {
      if (pair.across && (nodes[pair.a] == node || nodes[pair.b] == node)) {
        speed = std::max(speed, pair.speed);
      }
    }
    sentences.push_back(fmt::format(
        "the link of {} is slow: {:.3f} GB/s at best, {:.2f} of what other "
        "nodes reach",
        names[node], speed / 1e9, speed / best[1]));
  }
  for (const Pair& pair : pairs) {
    if (!pair.slow || explained(pair)) continue;
    verdict.slow_pairs.emplace_back(pair.a, pair.b);
    sentences.push_back(fmt::format(
        "the way between ranks {} and {} is slow: {:.3f} GB/s, {:.2f} of the "
        "best pair {}",
        pair.a, pair.b, pair.speed / 1e9, pair.speed / best[pair.across],
        pair.across ? "across nodes" : "within nodes"));
  }
  if (sentences.empty()) {
    const bool compared = of_kind[0] > 1 || of_kind[1] > 1;
    if (compared || judge_within_nodes)
      sentences.push_back(
          compared ? fmt::format("no link stands out: the slowest pair reaches "
                                 "{:.2f} of the best of its kind",
                                 verdict.worst_ratio)
                   : "one pair of each kind: there is nothing to compare with");
  }
  if (!judge_within_nodes) {
    sentences.push_back(
        "ranks of a node take turns on its cores, so the ways between them "
        "are not judged");
  }
  verdict.says = fmt::format("{}", fmt::join(sentences, "; "));
  return verdict;
}

}  // namespace dai::hardware
