// SPDX-License-Identifier: Apache-2.0
#include "common/launch/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/errors.h"
#include "common/launch/failure.h"

namespace dai::launch {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string refusal(const std::vector<std::string>& arguments) {
  try {
    parse_options(arguments);
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), ::testing::Not(HasSubstr("\n")));
    return error.what();
  }
  return "accepted";
}

TEST(LaunchOptions, DashesUnderscoresAndBothWaysToGiveAValue) {
  for (const auto& words :
       std::vector<std::vector<std::string>>{{"--nproc-per-node", "3", "app"},
                                             {"--nproc_per_node", "3", "app"},
                                             {"--nproc-per-node=3", "app"},
                                             {"--nproc_per-node=3", "app"}}) {
    EXPECT_EQ(parse_options(words).nproc_per_node, 3);
  }
}

TEST(LaunchOptions, WhatStandsBehindTheProgramBelongsToIt) {
  const auto o =
      parse_options({"--standalone", "app", "--nnodes", "x", "--", "-h"});
  EXPECT_THAT(o.program, ElementsAre("app", "--nnodes", "x", "--", "-h"));
  EXPECT_EQ(o.max_nodes, 1);
  EXPECT_THAT(parse_options({"--", "--odd-name", "1"}).program,
              ElementsAre("--odd-name", "1"));
}

TEST(LaunchOptions, NodesAreANumberOrARange) {
  const auto three = parse_options({"--nnodes=3", "--rdzv-endpoint=h", "app"});
  EXPECT_EQ(three.min_nodes, 3);
  EXPECT_EQ(three.max_nodes, 3);
  const auto range =
      parse_options({"--nnodes=1:4", "--rdzv-endpoint=h", "app"});
  EXPECT_EQ(range.min_nodes, 1);
  EXPECT_EQ(range.max_nodes, 4);
  for (const std::string bad :
       {"0", "-1", "2:1", "1:", ":2", "1:2:3", "two", "", "1.5"}) {
    EXPECT_THAT(refusal({"--nnodes=" + bad, "app"}), HasSubstr("--nnodes"))
        << bad;
  }
}

TEST(LaunchOptions, EndpointTakesNamesAndBothKindsOfAddress) {
  const auto endpoint = [](const std::string& text) {
    const auto o =
        parse_options({"--nnodes=2", "--rdzv-endpoint", text, "app"});
    return o.rdzv_host + " " + std::to_string(o.rdzv_port);
  };
  EXPECT_EQ(endpoint("node1"), "node1 29400");
  EXPECT_EQ(endpoint("node1:1234"), "node1 1234");
  EXPECT_EQ(endpoint("[::1]:1234"), "::1 1234");
  EXPECT_EQ(endpoint("::1"), "::1 29400");
  EXPECT_EQ(endpoint("[::1]"), "::1 29400");
  EXPECT_EQ(parse_options({"--rdzv-endpoint=localhost:0", "app"}).rdzv_port, 0);
  for (const std::string bad : {"", ":1", "h:", "h:0", "h:65536", "h:x"}) {
    EXPECT_THAT(refusal({"--nnodes=2", "--rdzv-endpoint", bad, "app"}),
                HasSubstr("--rdzv-endpoint"))
        << bad;
  }
}

TEST(LaunchOptions, NumbersOutOfRangeAreNamed) {
  for (const std::string bad :
       {"0", "-1", "x", "2x", "", "99999999999", "1e3"}) {
    EXPECT_THAT(refusal({"--nproc-per-node", bad, "app"}),
                AllOf(HasSubstr("--nproc-per-node"), HasSubstr(bad)));
  }
  for (const std::string bad : {"nan", "inf", "-1", "", "soon"}) {
    EXPECT_THAT(refusal({"--join-timeout-s", bad, "app"}),
                HasSubstr("--join-timeout-s"));
  }
  EXPECT_THAT(refusal({"--tee", "4", "app"}), HasSubstr("3 (both)"));
}

TEST(LaunchOptions, UnknownFlagGetsTheNearestKnownOne) {
  EXPECT_THAT(refusal({"--nproc_pr_node=2", "app"}),
              HasSubstr("did you mean --nproc-per-node?"));
  EXPECT_THAT(refusal({"--max-restart", "1", "app"}),
              HasSubstr("did you mean --max-restarts?"));
  EXPECT_THAT(refusal({"--zzzzzzzzzz", "app"}), HasSubstr("--help"));
  EXPECT_THAT(refusal({"-n", "2", "app"}), HasSubstr("--nproc-per-node N"));
  EXPECT_THAT(refusal({"-m", "app"}), HasSubstr("python3 -m MODULE"));
}

TEST(LaunchOptions, ContradictionsAndGapsAreNamed) {
  EXPECT_THAT(refusal({}), HasSubstr("no program"));
  EXPECT_THAT(refusal({"--standalone"}), HasSubstr("no program"));
  EXPECT_THAT(refusal({"--nnodes"}), HasSubstr("needs a value"));
  EXPECT_THAT(refusal({"--standalone=1", "app"}), HasSubstr("no value"));
  EXPECT_THAT(refusal({"--standalone", "--nnodes=2", "app"}),
              HasSubstr("--standalone"));
  EXPECT_THAT(refusal({"--nnodes=2", "app"}), HasSubstr("--rdzv-endpoint"));
  EXPECT_THAT(
      refusal({"--nnodes=2", "--rdzv-endpoint=h", "--node-rank=2", "app"}),
      HasSubstr("--node-rank 2"));
  EXPECT_THAT(refusal({"--tee=3", "app"}), HasSubstr("--log-dir"));
}

TEST(LaunchOptions, HelpNamesEveryFlagAndNeedsNoProgram) {
  EXPECT_TRUE(parse_options({"--help"}).help);
  EXPECT_TRUE(parse_options({"--nnodes=3", "-h"}).help);
  for (const char* flag : {"--nproc-per-node", "--nnodes", "--rdzv-endpoint",
                           "--max-restarts", "--tee", "--log-dir"}) {
    EXPECT_THAT(help_text(), HasSubstr(flag));
  }
}

TEST(LaunchOptions, ProgramsAreLookedUpAsTheShellDoes) {
  EXPECT_THAT(find_program("sh"), ::testing::EndsWith("/sh"));
  EXPECT_EQ(find_program("/bin/sh"), "/bin/sh");
  EXPECT_THROW(find_program("no-such-program"), UsageError);
  EXPECT_THROW(find_program("/etc/passwd"), UsageError);  // not executable
  EXPECT_THROW(find_program("/tmp"), UsageError);         // a folder
  EXPECT_THROW(find_program(""), UsageError);
}

TEST(ExitCodes, OneBeatsTwoBeats77BeatsZero) {
  const std::vector<int> worst_first = {1, 2, 77, 0};
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t j = 0; j < 4; ++j) {
      EXPECT_EQ(worse_code(worst_first[i], worst_first[j]),
                worst_first[std::min(i, j)]);
    }
  }
  EXPECT_EQ(worse_code(2, 139), 1);  // a code that nobody agreed on
}

}  // namespace
}  // namespace dai::launch
