// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory_proof/measured_module.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <torch/csrc/jit/api/module.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "common/file.h"
#include "common/torch/device.h"
#include "tests/common/temp_folder.h"

namespace dai::intro {
namespace {

constexpr std::int64_t kVocab = 50, kHidden = 16, kTokens = 4 * 8;

class MeasuredModuleFile : public TempFolder {
 protected:
  std::string save(bool trainable) {
    set_deterministic_threads();
    torch::jit::Module module("Model");
    const at::Tensor table =
        at::ones({kVocab, kHidden}).set_requires_grad(trainable);
    module.register_parameter("table", table, /*is_buffer=*/false);
    module.register_parameter("head", table, /*is_buffer=*/false);
    module.register_buffer("bias", at::zeros({kVocab}));
    module.define(R"(
      def forward(self, tokens):
          hidden = torch.embedding(self.table, tokens)
          hidden = torch.exp(hidden)
          return torch.matmul(hidden, self.head.t()) + self.bias
    )");
    const std::string path = folder_ / "model.pt";
    module.save(path);
    return path;
  }
};

TEST_F(MeasuredModuleFile, StatesAreWhatTheFileSays) {
  const MeasuredModule measured =
      measure_module(save(true), parse_input_shapes("4x8:int64:50"), 4, 1234);
  EXPECT_EQ(measured.file.states, 4 * (kVocab * kHidden + kVocab));
  EXPECT_EQ(measured.loaded_bytes, measured.file.states);
  EXPECT_TRUE(measured.has_backward);
  EXPECT_EQ(measured.gradients, 4 * kVocab * kHidden);
  EXPECT_EQ(measured.report.at_end.total(), measured.live);
  ASSERT_EQ(measured.after_step.size(), 4U);
  EXPECT_EQ(measured.after_step[2], measured.after_step[3]);
  // exp keeps its result; the mean of [4, 8, 50] and its loss are one number.
  EXPECT_GE(measured.activations, 4 * kTokens * kHidden);
  EXPECT_LT(measured.activations, 4 * kTokens * (kHidden + 2 * kVocab));
}

TEST_F(MeasuredModuleFile, AFrozenModuleHasNoBackward) {
  const MeasuredModule measured =
      measure_module(save(false), parse_input_shapes("4x8:int64:50"), 3, 1234);
  EXPECT_FALSE(measured.has_backward);
  EXPECT_EQ(measured.gradients, 0);
  EXPECT_EQ(measured.loaded_bytes, measured.file.states);
}

// The app as a reader calls it.
TEST_F(MeasuredModuleFile, TheAppTakesAFileAndRefusesNonsense) {
  const auto exit_code = [&](const std::string& words) {
    const std::string command = std::string(APP) + " " + words + " > " +
                                (folder_ / "out").string() + " 2> " +
                                (folder_ / "err").string();
    return WEXITSTATUS(std::system(command.c_str()));
  };
  const std::string model = "--module " + save(true);
  const std::string json = folder_ / "report.json";
  EXPECT_EQ(exit_code(model + " --input-shape 4x8:int64:50 --json " + json), 0);
  const auto report = nlohmann::json::parse(read_file(json));
  EXPECT_EQ(report["check"], "ok");
  EXPECT_EQ(report["metrics"]["states_bytes"], 4 * (kVocab * kHidden + kVocab));
  EXPECT_TRUE(report["memory_timeline"].contains("module"));

  const auto refuses = [&](const std::string& words, const char* what) {
    EXPECT_EQ(exit_code(words), 2) << words;
    const std::string said = read_file(folder_ / "err");
    EXPECT_THAT(said, ::testing::HasSubstr(what));
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  };
  refuses(model, "--module needs --input-shape");
  refuses(model + " --input-shape 4x8:int9", "no type 'int9'");
  refuses(model + " --input-shape 4x8", "forward fails on these inputs");
  refuses(model + " --input-shape 4x8:int64:5000", "out of range");
  refuses("--module " + json + " --input-shape 4", "not a TorchScript");
  refuses("--model nano-2m", "nano-1m");
  refuses("--model nano-1m --seq 4096", "512 positions");
}

}  // namespace
}  // namespace dai::intro
