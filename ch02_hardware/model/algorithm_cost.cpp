// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/model/algorithm_cost.h"

#include <algorithm>
#include <bit>
#include <stdexcept>

namespace dai::hardware {

AlgorithmCost cost_of(Collective what, const std::string& name, int ranks) {
  const double n = ranks;
  const auto unsigned_n = static_cast<unsigned>(ranks);
  const double p = std::bit_floor(unsigned_n);
  // Steps to halve n down to 1, rounded down and up.
  const double log_p = std::bit_width(unsigned_n) - 1;
  const double log_n = ranks > 1 ? std::bit_width(unsigned_n - 1) : 0;
  const double fold = p < n ? 2 : 0;  // in, and out again
  const double share = (n - 1) / n;
  if (ranks == 1) return {0, 0};
  switch (what) {
    case Collective::kAllReduce:
      if (name == "naive") return {2 * (n - 1), 2 * (n - 1)};
      if (name == "naive_ring" || name == "ring") {
        return {2 * (n - 1), 2 * share};
      }
      if (name == "bidirectional_ring") {
        // Between two ranks both directions are one link, used in turn.
        return {ranks == 2 ? 4 : 2 * (n - 1), 2 * share};
      }
      if (name == "recursive_doubling") return {log_p + fold, log_p + fold};
      if (name == "halving_doubling") {
        return {2 * log_p + fold, 2 * (p - 1) / p + fold};
      }
      if (name == "binomial_tree") return {2 * log_n, 2 * log_n};
      if (name == "one_shot") return {1, n - 1};
      if (name == "two_shot") return {2, 2 * share};
      break;
    case Collective::kReduce:
      if (name == "naive") return {n - 1, n - 1};
      if (name == "binomial_tree") return {log_n, log_n};
      break;
    case Collective::kBroadcast:
      if (name == "naive") return {n - 1, n - 1};
      if (name == "chain") return {n - 1, n - 1};
      if (name == "binomial_tree") return {log_n, log_n};
      if (name == "pipelined") return {n - 1, 1};
      if (name == "direct") return {2, n - 1};
      break;
    case Collective::kAllGather:
      if (name == "naive") return {2 * (n - 1), share + n - 1};
      if (name == "ring") return {n - 1, share};
      if (name == "recursive_doubling") {
        // The first blocks are two ranks wide where ranks were folded in; then
        // all of it goes to the one that was.
        double parts = fold > 0 ? n : 0;
        for (double width = 1; width < p; width *= 2) {
          parts += width + std::min(width, n - p);
        }
        return {log_p + fold, parts / n};
      }
      if (name == "direct") return {2, share};
      break;
    case Collective::kReduceScatter:
      if (name == "naive") return {2 * (n - 1), n - 1 + share};
      if (name == "ring" || name == "pairwise") return {n - 1, share};
      if (name == "direct") return {2, share};
      break;
    case Collective::kGather:
    case Collective::kScatter:
      if (name == "naive") return {n - 1, share};
      if (name == "binomial_tree") return {log_n, share};
      break;
    case Collective::kAllToAll:
      // Rank r sends in its turn, and the turns overlap as far as they can.
      if (name == "naive") return {n * (n + 1) / 2 - 1, n - 1};
      if (name == "pairwise") return {n - 1, share};
      if (name == "direct") return {2, share};
      break;
    case Collective::kBarrier:
      if (name == "naive") return {2 * (n - 1), 0};
      if (name == "dissemination") return {log_n, 0};
      break;
    case Collective::kSendReceive:
      return {1, 1};
  }
  throw std::invalid_argument("no cost is known of algorithm " + name +
                              " for " + to_string(what));
}

double size_bytes(Collective what, std::size_t count, std::size_t element,
                  int ranks) {
  const double one = static_cast<double>(count) * static_cast<double>(element);
  switch (what) {
    case Collective::kAllGather:
    case Collective::kReduceScatter:
    case Collective::kGather:
    case Collective::kScatter:
    case Collective::kAllToAll:
      return one * ranks;
    default:
      return one;
  }
}

}  // namespace dai::hardware
