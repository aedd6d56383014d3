// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/bottleneck/recorded_jobs.h"

#include <fmt/format.h>

#include "ch01_intro/recorded/recorded.h"
#include "common/strict_json.h"

namespace dai::intro {

std::vector<RecordedJob> read_recorded_jobs(const std::string& path) {
  const Recorded recorded = read_recorded(path, kBottleneckApp);
  const std::string where = "'" + path + "'";
  want_keys(recorded.data, {"jobs"}, where);
  const nlohmann::json& list = recorded.data["jobs"];
  if (!list.is_array() || list.empty()) refuse(where, "holds no jobs");
  std::vector<RecordedJob> jobs;
  for (const nlohmann::json& job : list) {
    const std::string of_job = fmt::format("{}, job {}", where, jobs.size());
    want_keys(job,
              {"truth", "seed", "injected", "tries", "command", "evidence"},
              of_job);
    jobs.push_back({.seed = get_count(job, "seed", of_job),
                    .truth = resource_named(get_string(job, "truth", of_job)),
                    .evidence = read_evidence(job["evidence"].dump(), of_job)});
  }
  return jobs;
}

Examined examine(const std::vector<RecordedJob>& jobs,
                 const VerdictRules& rules) {
  Examined result;
  for (const RecordedJob& job : jobs) {
    const Resource said = judge(job.evidence, rules).resource;
    ++result.jobs;
    if (said == job.truth) continue;
    ++result.misjudged;
    result.wrong +=
        fmt::format("{}seed {}: {}", result.wrong.empty() ? "" : ", ", job.seed,
                    to_string(said));
  }
  return result;
}

}  // namespace dai::intro
