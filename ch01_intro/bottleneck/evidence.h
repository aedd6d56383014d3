// SPDX-License-Identifier: Apache-2.0
#pragma once

// What is known about a job when somebody asks why it is slow: a row of
// measures for every step and rank, of steps taken as the reference and of the
// steps under judgement. Torch-free, so that a recorded job can be judged
// anywhere and again.
//
//   Evidence evidence = read_evidence(read_file("job.json"), "'job.json'");
//   Verdict verdict = judge(evidence);                  // verdict.h
//   write_file_atomically("job.json", to_json(evidence).dump());
//
// In every measure more is worse, probes included (a bandwidth is kept as the
// time to move a megabyte): one comparison serves all. A measure that a
// machine does not offer is NaN, null in JSON.

#include <array>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace dai::intro {

enum Measure {
  // Wall-clock parts of the step; they add up to it.
  kStepMs,
  kDataMs,  // waiting for samples and making tensors of them
  kForwardMs,
  kBackwardMs,
  kOptimizerMs,
  kLoopMs,  // our own additions, and the loop itself
  kWaitMs,  // for the slowest rank
  kWireMs,
  // What the kernel says about the thread that computes.
  kComputeCpuMs,         // on a core, outside data and collectives
  kStarvedMs,            // off the cores during forward and backward ...
  kRunDelayMs,           // ... of that, able to run and waiting for a core
  kVoluntarySwitches,    // of the whole step
  kInvoluntarySwitches,  // another thread took the core
  kNodeBusyShare,        // of all cores' time, used by anybody
  // Probes between steps, on the same core: what the machine still gives.
  kFmaUs,     // a fixed chain of multiply-adds in registers
  kRandomNs,  // a dependent load beyond the L2 cache
  kStreamUs,  // reading a megabyte, one after the other, beyond L2
  kPingUs,    // there and back, to the next rank
  kLinkUs,    // sending a megabyte to the next rank
  kMeasures
};
const char* to_string(Measure measure);  // "wire_ms"

using Measures = std::array<double, kMeasures>;
Measures no_measures();                         // all NaN
using StepEvidence = std::vector<Measures>;     // [rank]
using JobEvidence = std::vector<StepEvidence>;  // [step][rank]

struct Evidence {
  JobEvidence reference = {};  // the job as it runs when nothing is wrong
  JobEvidence watched = {};    // the steps under judgement

  int ranks() const;
};

// Three significant digits: a measurement has no more.
nlohmann::ordered_json to_json(const Evidence& evidence);

// Throws UsageError that starts with `where`: not JSON, another schema, a
// measure that is missing or unknown, steps of unequal numbers of ranks.
Evidence read_evidence(std::string_view json, std::string_view where);

// One measure of one rank over the steps.
std::vector<double> series(const JobEvidence& job, int rank, Measure measure);

}  // namespace dai::intro
