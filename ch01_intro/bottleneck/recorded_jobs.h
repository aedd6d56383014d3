// SPDX-License-Identifier: Apache-2.0
#pragma once

// Jobs that were disturbed from outside and recorded, with what was done to
// them: the verdict's own examination. record_jobs.py runs and writes them, a
// file for each kind of trouble:
//
//   auto jobs = read_recorded_jobs(recorded_path("bottleneck_memory.json"));
//   Examined result = examine(jobs);
//   result.misjudged, result.wrong        // 1, "seed 3: none"
//
// The files are those of recorded.h, with "jobs" in their data:
//   { truth, seed, injected, tries, command, evidence }
//
// Errors: UsageError that names the file.

#include <cstdint>
#include <string>
#include <vector>

#include "ch01_intro/bottleneck/verdict.h"

namespace dai::intro {

// Written by the app's --record: the evidence of one job, in such a file.
constexpr const char* kBottleneckApp = "ch01_find_bottleneck";

struct RecordedJob {
  std::int64_t seed = 0;
  Resource truth = Resource::kNone;
  Evidence evidence = {};
};

std::vector<RecordedJob> read_recorded_jobs(const std::string& path);

struct Examined {
  std::int64_t jobs = 0;
  std::int64_t misjudged = 0;
  std::string wrong = {};
};

Examined examine(const std::vector<RecordedJob>& jobs,
                 const VerdictRules& rules = {});

}  // namespace dai::intro
