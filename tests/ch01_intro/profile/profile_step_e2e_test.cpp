// SPDX-License-Identifier: Apache-2.0

// ch01_profile_step as its readers start it, with modules of their own.

#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/file.h"
#include "tests/common/temp_folder.h"
#include "tests/support/child_ranks.h"

namespace dai {
namespace {

using ::testing::HasSubstr;

class ProfileStep : public TempFolder {
 protected:
  testing::ChildResult run(std::vector<std::string> arguments) {
    testing::ChildRanks ranks("../bin/ch01_profile_step");
    arguments.insert(arguments.begin(), {"--smoke", "--steps", "1"});
    ranks.start(arguments, {{"OMP_NUM_THREADS", "1"}});
    return ranks.wait(std::chrono::seconds(100)).at(0);
  }

  std::string save(const std::string& forward, bool learns = true) {
    torch::jit::Module module("Example");
    module.register_parameter("weight",
                              at::ones({16, 24}).requires_grad_(learns), false);
    module.define("def forward(self, x):\n    return " + forward + "\n");
    const std::string path = folder_ / "module.pt";
    module.save(path);
    return path;
  }
};

TEST_F(ProfileStep, AModulesForwardAndBackwardAreCounted) {
  const std::string json = folder_ / "report.json";
  const std::string trace = folder_ / "trace.json";
  const auto result =
      run({"--module", save("torch.relu(torch.matmul(x, self.weight))"),
           "--input-shape", "32x16", "--json", json, "--trace", trace});
  EXPECT_EQ(result.code, 0) << result.output;
  const auto report = nlohmann::json::parse(read_file(json));
  // x needs no gradient: one product forward, one backward.
  EXPECT_EQ(report["metrics"]["step_flops"], 2 * 2 * 32 * 16 * 24);
  EXPECT_THAT(result.output, HasSubstr("aten::mm"));
  double backward_ms = 0;
  for (const auto& module : report["profile"]["modules"]) {
    if (module["name"] == "forward") backward_ms = module["backward_ms"];
  }
  EXPECT_GT(backward_ms, 0);
  EXPECT_THAT(read_file(trace), HasSubstr("traceEvents"));
}

TEST_F(ProfileStep, AFrozenModuleRunsForwardOnly) {
  const std::string json = folder_ / "report.json";
  const auto result =
      run({"--module", save("torch.matmul(x, self.weight)", /*learns=*/false),
           "--input-shape", "32x16", "--json", json});
  EXPECT_EQ(result.code, 0) << result.output;
  const auto report = nlohmann::json::parse(read_file(json));
  EXPECT_EQ(report["metrics"]["step_flops"], 2 * 32 * 16 * 24);
}

TEST_F(ProfileStep, AnOperatorWithoutARuleIsNamedAndFailsTheCheck) {
  const auto result = run(
      {"--module", save("torch.cdist(x, torch.t(self.weight)).sum()", false),
       "--input-shape", "32x16"});
  EXPECT_EQ(result.code, 1) << result.output;
  EXPECT_THAT(result.output, HasSubstr("no FLOP rule for: aten::cdist"));
}

TEST_F(ProfileStep, WrongUsageIsOneLine) {
  EXPECT_EQ(run({"--module", "model.pt"}).code, 2);
  const auto missing =
      run({"--module", folder_ / "none.pt", "--input-shape", "2x2"});
  EXPECT_EQ(missing.code, 2);
  EXPECT_THAT(missing.output, HasSubstr("no such file"));
  const auto shape = run({"--module", save("x"), "--input-shape", "2xtwo"});
  EXPECT_EQ(shape.code, 2) << shape.output;
  const auto longer = run({"--seq", "513"});
  EXPECT_EQ(longer.code, 2);
  EXPECT_THAT(longer.output, HasSubstr("512 positions"));
  EXPECT_EQ(run({"--model", "nano-2m"}).code, 2);
}

}  // namespace
}  // namespace dai
