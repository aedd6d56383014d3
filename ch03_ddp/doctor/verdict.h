// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the doctor can say: of what kind, of which ranks, and the evidence.

#include <string>
#include <vector>

namespace dai::ddp {

enum class VerdictKind {
  kSkippedCall,
  kExtraCall,
  kSwappedOrder,
  kShape,
  kDtype,
  kReduceOp,
  kRoot,
  kBranch,
  kOtherCall,  // what came before does not tell more
  kInputsExhausted,
  kProcessDead,
  kProcessStopped,
  kProcessSilent,
  kRankFailed,       // left with an exception
  kUnusedParameter,  // left because a parameter got no gradient
  kRankAbsent,       // alive, and in no collective
  kTransport,        // all are there, and nothing moves
  kSlowRank,
  kDrift,
  kInitialisation,
  kOverlappingData,
  kNan,
};
// "skipped call", ...
const char* to_string(VerdictKind kind);

struct Verdict {
  VerdictKind kind = VerdictKind::kTransport;
  std::vector<int> ranks;  // the odd ones
  std::string sentence;    // names them and the call
  std::vector<std::string> details;
  std::string to_string() const;
};

// "rank 2" or "ranks 0, 1, 3"
std::string name_ranks(const std::vector<int>& ranks);

}  // namespace dai::ddp
