// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/bottleneck/evidence.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "ch01_intro/bottleneck/recorded_jobs.h"
#include "ch01_intro/bottleneck/resource_meter.h"
#include "ch01_intro/recorded/recorded.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

Evidence one_of_each() {
  Measures m = no_measures();
  m[kStepMs] = 123.456;
  m[kDataMs] = 0;
  return {.reference = {{m, m}}, .watched = {{m, m}, {m, m}}};
}

TEST(Evidence, ComesBackToThreeDigits) {
  const Evidence back = read_evidence(to_json(one_of_each()).dump(), "here");
  EXPECT_EQ(back.ranks(), 2);
  EXPECT_EQ(back.watched.size(), 2U);
  EXPECT_EQ(back.watched[1][1][kStepMs], 123);
  EXPECT_EQ(back.watched[1][1][kDataMs], 0);
  EXPECT_TRUE(std::isnan(back.watched[1][1][kFmaUs]));
}

TEST(Evidence, RefusesWhatIsNone) {
  const auto broken = [](auto change) {
    nlohmann::ordered_json json = to_json(one_of_each());
    change(json);
    EXPECT_THAT([&] { read_evidence(json.dump(), "here"); },
                testing::ThrowsMessage<UsageError>(testing::StartsWith("here")))
        << json.dump();
  };
  broken([](auto& json) { json["schema"] = 2; });
  broken([](auto& json) { json["ranks"] = 3; });
  broken([](auto& json) { json["ranks"] = 0; });
  broken([](auto& json) { json["measures"].erase(0); });
  broken([](auto& json) { json["watched"][0][0].erase(0); });
  broken([](auto& json) { json["watched"][0][0][0] = "fast"; });
  broken([](auto& json) { json["watched"][0][0][0] = -1; });
  broken([](auto& json) { json["watched"] = 1; });
  broken([](auto& json) { json.erase("reference"); });
  broken([](auto& json) { json["more"] = 1; });
  EXPECT_THROW(read_evidence("{", "here"), UsageError);
}

TEST(RecordedJobs, TenOfEachKindAreCommitted) {
  for (const char* kind :
       {"none", "input", "compute", "memory", "communication"}) {
    const auto jobs = read_recorded_jobs(
        recorded_path(std::string("bottleneck_") + kind + ".json"));
    EXPECT_EQ(jobs.size(), 10U) << kind;
    for (const RecordedJob& job : jobs) {
      EXPECT_STREQ(to_string(job.truth), kind) << job.seed;
    }
  }
}

TEST(RecordedJobs, AFileWithoutJobsIsRefused) {
  EXPECT_THROW(read_recorded_jobs(recorded_path("cpu_rule.json")), UsageError);
  EXPECT_THROW(read_recorded_jobs("/nowhere.json"), UsageError);
}

TEST(ResourceMeter, TellsComputingFromBeingThere) {
  const ResourceUse before = resource_use();
  double sum = 0;
  while ((resource_use() - before).cpu_ms < 5) sum += std::sqrt(sum + 1);
  const ResourceUse spent = resource_use() - before;
  EXPECT_GT(sum, 0);
  EXPECT_GE(spent.cpu_ms, 5);
  EXPECT_GE(spent.wall_ms, spent.cpu_ms - 1);
}

TEST(ResourceMeter, NothingBetweenTwoReadingsIsNoShare) {
  const NodeUse now = node_use();
  EXPECT_TRUE(std::isnan(busy_share(now, now)));
  EXPECT_EQ(busy_share({.busy_ms = 10, .total_ms = 100},
                       {.busy_ms = 60, .total_ms = 200}),
            0.5);
}

}  // namespace
}  // namespace dai::intro
