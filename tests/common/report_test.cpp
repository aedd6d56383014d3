// SPDX-License-Identifier: Apache-2.0
#include "common/report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace dai {
namespace {

TEST(Table, AlignsNumbersRightAndWordsLeft) {
  Table table({"rank", "host"});
  table.add_row({"0", "a"});
  table.add_row({"10", "node-b"});
  EXPECT_EQ(table.to_string(),
            "rank  host\n"
            "----  ------\n"
            "   0  a\n"
            "  10  node-b\n");
}

TEST(Table, RefusesARowOfAnotherWidth) {
  Table table({"rank", "host"});
  EXPECT_THROW(table.add_row({"0"}), std::invalid_argument);
}

TEST(Check, PassesUpToItsToleranceAndNeverOnNan) {
  EXPECT_TRUE((Check{"x", 0, 0}).ok());
  EXPECT_TRUE((Check{"x", -0.5, 0.5}).ok());
  EXPECT_FALSE((Check{"x", 0.6, 0.5}).ok());
  EXPECT_FALSE((Check{"x", std::nan(""), 1}).ok());
  EXPECT_FALSE((Check{"x", std::numeric_limits<double>::infinity(), 1}).ok());
  EXPECT_EQ((Check{"max|a - b|", 0, 0}).to_string(),
            "check: max|a - b| = 0 (tolerance 0) ok");
  EXPECT_EQ((Check{"x", 2, 1}).to_string(),
            "check: x = 2 (tolerance 1) FAILED");
}

TEST(Report, HasTheOneShape) {
  Report report;
  report.app = "ch01_x";
  report.seed = 7;
  report.checks.push_back({"x", std::nan(""), 0});
  report.metrics["step_ms"] = 1.5;
  report.extra["curves"] = {{"loss", {2.0, 1.0}}};
  const auto json = nlohmann::json::parse(report.to_json(1).dump());
  for (const char* key : {"schema", "app", "version", "check", "checks", "seed",
                          "machine", "ranks", "metrics", "curves"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  EXPECT_EQ(json["check"], "failed");
  EXPECT_EQ(json["checks"][0]["ok"], false);
  EXPECT_TRUE(json["checks"][0]["value"].is_null());
  EXPECT_EQ(json["ranks"]["world_size"], 1);
  EXPECT_GT(json["machine"]["cores"].get<int>(), 0);
  EXPECT_EQ(report.to_json(0)["check"], "ok");
  EXPECT_EQ(report.to_json(77)["check"], "skipped");
}

}  // namespace
}  // namespace dai
