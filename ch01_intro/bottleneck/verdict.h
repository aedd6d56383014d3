// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which resource limits a job's step, by how much, on which rank, and what to
// do about it: the judgement over the evidence of evidence.h.
//
//   Verdict verdict = judge(evidence);
//   fmt::print("{}{}\n", verdict.table(), verdict.sentence());
//   if (verdict.resource == Resource::kInput) ...
//
// The watched steps are compared with the reference, median with median, so
// that a hiccup decides nothing. What made the step longer is looked for where
// it arises, on the rank that has most of it:
//
//   input          growth of data_ms
//   compute        growth of starved_ms, time off the cores in the middle of
//                  forward and backward: stopped, or waiting for a core that
//                  others use. Neighbours come and go, so the latter counts
//                  only when it costs a whole reference step. The time that
//                  the *other ranks* then wait is a symptom, never the cause.
//   memory         growth of compute_cpu_ms (the same work took longer on a
//                  core), where the memory probes got worse and the register
//                  probe did not; with a worse register probe it is compute
//   communication  growth of wire_ms on every rank, where the link probe got
//                  worse as well (a rank that is stopped in a collective makes
//                  the wire slow, and the link is innocent), while cores were
//                  idle or small messages as fast as ever (where all cores
//                  are taken nobody moves the bytes, and the link is innocent)
//
// The largest cause is named if it costs at least `enter` of the reference
// step, stands out of the noise, and the step grew with it. Memory needs less:
// a neighbour takes a job's cache and bandwidth but never the time that it
// computes, and the probes have seen it already. A resource that
// the verdict before named stays until it costs less than `stay`.
//
// A job that was starved before its reference was taken shows no growth.
// Shares of the step that no healthy job has are therefore named in any case:
// more than half of it waiting for data, or on the wire beside idle cores, or a
// third of it neither on a core nor waiting for one while it computes. A slow
// memory from the start on is not seen; give it the reference of a better day.
//
// none: the step runs as fast as this job can on this machine.

#include <cstdint>
#include <string>
#include <vector>

#include "ch01_intro/bottleneck/evidence.h"

namespace dai::intro {

enum class Resource { kNone, kInput, kCompute, kMemory, kCommunication };
const char* to_string(Resource resource);
// Throws UsageError for a word that is none of them.
Resource resource_named(const std::string& word);

struct VerdictRules {
  std::int64_t min_steps = 8;  // of either kind; with fewer, no verdict
  double enter = 0.30;         // of the reference step
  double stay = 0.15;
  double enter_queue = 1.0;    // where cores are shared, not withheld
  double enter_memory = 0.10;  // a probe that knows nothing of the job agrees
  double noise = 3;            // deviations of a difference of medians
  // A probe got worse when it takes so many times as long, beyond its noise.
  double fma_probe = 1.15;
  double memory_probe = 1.30;
  double link_probe = 3;
  double busy_node = 0.8;  // above it no core is idle
  // Of the step, whatever the reference says.
  double waiting_share = 0.5;
  double stopped_share = 1.0 / 3;
};

// A measure on one rank: medians over the steps in which it was measured.
struct Change {
  double before = 0;
  double after = 0;
  double deviation = 0;  // of after - before
  bool known = false;    // measured often enough in both
  double growth() const { return after - before; }
  double ratio() const { return before > 0 ? after / before : 1; }
};
Change change_of(const Evidence& evidence, int rank, Measure measure,
                 const VerdictRules& rules = {});

struct Cause {
  Resource resource = Resource::kNone;
  int rank = -1;          // -1: all of them
  double cost_ms = 0;     // of a watched step
  double enter = 0;       // the least cost to be named, of the reference
  bool confirmed = true;  // by the probe that would see it
  bool large = false;     // enough to be named
  std::string reason;     // "waits for a core", "link 23 x slower"
};

struct Verdict {
  Resource resource = Resource::kNone;
  int rank = -1;
  double cost_ms = 0;
  double step_ms = 0;
  double reference_step_ms = 0;
  bool from_the_start = false;  // by its share, not by comparison
  std::string reason;
  std::vector<Cause> causes;  // largest first
  std::vector<std::pair<Measure, std::pair<int, Change>>> changes;

  double share() const { return step_ms > 0 ? cost_ms / step_ms : 0; }
  double gain() const;  // how many times as fast without it
  std::string sentence() const;
  std::string advice() const;
  std::string table() const;
};

// Throws UsageError when there are fewer steps than the rules ask for, or when
// a part of the step is missing or not finite.
Verdict judge(const Evidence& evidence, const VerdictRules& rules = {},
              Resource previous = Resource::kNone);

}  // namespace dai::intro
