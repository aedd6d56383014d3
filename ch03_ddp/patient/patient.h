// SPDX-License-Identifier: Apache-2.0
#pragma once

// A small data-parallel training with the bugs that keep people awake, one at a
// time, for the doctor to find. The bugs are ordinary code: patient.cpp reads
// like a training loop.

#include <cstdint>
#include <string>
#include <vector>

#include "ch03_ddp/doctor/watch.h"

namespace dai {
class ProcessGroup;
}

namespace dai::ddp {

enum class Fault {
  kNone,
  kSkippedCall,
  kExtraCall,
  kSwappedOrder,
  kShape,
  kDtype,
  kReduceOp,
  kRoot,
  kBranch,
  kInputsExhausted,
  kProcessDead,
  kProcessStopped,
  kRankAbsent,
  kSlowRank,
  kUnusedParameter,
  kDrift,
  kInitialisation,
  kOverlappingData,
  kNan,
  kDataPause,  // no fault: the doctor must keep quiet
};

// "skipped-call", ...; of all, in this order.
const std::vector<std::string>& fault_names();
// Throws UsageError.
Fault fault_from(const std::string& name);
// What the doctor should say: "skipped call"; empty: nothing.
std::string expected_verdict(Fault fault);

struct PatientOptions {
  Fault fault = Fault::kNone;
  int rank = 2;           // that has it
  std::int64_t step = 5;  // in which; from it on where it is a lasting one
  std::int64_t steps = 20;
  std::int64_t hidden = 256, samples = 64;
  double pause_s = 2.5;  // of those that pause
  std::uint64_t seed = 1234;

  void check(int ranks) const;  // throws UsageError
};

struct PatientRun {
  std::vector<double> losses;  // mean over the ranks
};

// Collective, through the group's shutdown(). Throws what a training of that
// kind throws.
PatientRun train_patient(ProcessGroup& group, Watch& watch,
                         const PatientOptions& options);

}  // namespace dai::ddp
