// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/verdict.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace dai::ddp {

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
    case VerdictKind::kOtherCall:
      return "different call";
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

}  // namespace dai::ddp
