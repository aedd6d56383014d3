// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/module_file/script_module.h"

#include <ATen/ATen.h>
#include <caffe2/serialize/inline_container.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>

#include <fstream>
#include <string>

#include "ch01_intro/module_file/input_spec.h"
#include "common/errors.h"
#include "common/file.h"
#include "tests/common/temp_folder.h"

namespace dai::intro {
namespace {

class ScriptModuleFile : public TempFolder {};

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::ThrowsMessage;

// A linear layer with a buffer, a weight under two names and a view.
void save_example(const std::string& path) {
  torch::jit::Module module("Example");
  const at::Tensor weight = at::ones({3, 4}).requires_grad_();
  module.register_parameter("weight", weight, /*is_buffer=*/false);
  module.register_parameter("same_weight", weight, /*is_buffer=*/false);
  module.register_parameter("row", at::ones({5, 4})[2], /*is_buffer=*/false);
  module.register_buffer("count", at::full({2}, 7, at::kLong));
  module.define(R"(
    def forward(self, x):
        y = torch.matmul(x + self.row, self.weight.t())
        return y, [{"double": 2 * y}], self.count
  )");
  module.save(path);
}

auto refuses(const ::testing::Matcher<std::string>& what) {
  return ThrowsMessage<UsageError>(
      AllOf(what, Not(HasSubstr("\n")), Not(HasSubstr("frame #"))));
}

TEST_F(ScriptModuleFile, TheFileAloneSaysHowManyBytesLoadingTakes) {
  const std::string path = folder_ / "example.pt";
  save_example(path);
  const ModuleFileBytes bytes = module_file_bytes(path);
  // A shared storage once, and the whole storage behind a view.
  EXPECT_EQ(bytes.states, 4 * (3 * 4 + 5 * 4) + 8 * 2);
  EXPECT_EQ(bytes.storages, 3);
  const ScriptModule module = ScriptModule::load(path, at::kCPU);
  EXPECT_EQ(module.storage_bytes(), bytes.states);
  ASSERT_EQ(module.tensors().size(), 4U);
  EXPECT_EQ(module.tensors()[3].name, "count");
  EXPECT_FALSE(module.tensors()[3].is_parameter);
}

TEST_F(ScriptModuleFile, TheLossSumsTheMeansOfAllFloatingOutputs) {
  const std::string path = folder_ / "example.pt";
  save_example(path);
  ScriptModule module = ScriptModule::load(path, at::kCPU);
  const at::Tensor loss = module.loss({at::zeros({2, 4})});
  EXPECT_EQ(loss.item<float>(), 4 + 2 * 4);
  loss.backward();
  EXPECT_TRUE(module.tensors()[0].tensor.grad().defined());
  EXPECT_THAT(
      [&] {
        module.loss({at::zeros({2, 5})});
      },
      refuses(HasSubstr("forward fails on these inputs")));
  EXPECT_THAT([&] { module.loss({}); },
              refuses(HasSubstr("forward fails on these inputs")));
}

TEST_F(ScriptModuleFile, EveryFileThatIsNoneSaysWhatItIs) {
  const auto expect = [&](const std::string& path, const char* what) {
    EXPECT_THAT([&] { ScriptModule::load(path, at::kCPU); },
                refuses(HasSubstr(what)));
    EXPECT_THAT([&] { module_file_bytes(path); }, refuses(HasSubstr(what)));
  };
  const auto file = [&](const char* name, std::string_view content) {
    write_file_atomically(folder_ / name, content);
    return std::string(folder_ / name);
  };
  expect(folder_ / "none.pt", "no such file");
  expect(folder_, "not a file");
  expect(file("empty.pt", ""), "an empty file");
  expect(file("old.pt", "\x80\x02\x8a\x0al\xfc\x9c"), "before PyTorch 1.6");
  expect(file("text.pt", "once upon a time"), "not a TorchScript archive");

  const std::string good = folder_ / "good.pt";
  save_example(good);
  const std::string bytes = read_file(good);
  expect(file("half.pt", bytes.substr(0, bytes.size() / 2)), "damaged");
  expect(file("tail.pt", bytes.substr(0, bytes.size() - 9)), "damaged");

  const auto archive = [&](const char* name, std::uint64_t version,
                           std::initializer_list<const char*> records) {
    const std::string path = folder_ / name;
    caffe2::serialize::PyTorchStreamWriter writer(path);
    writer.setMinVersion(version);
    for (const char* record : records) writer.writeRecord(record, "x", 1);
    writer.writeEndOfFile();
    return path;
  };
  expect(archive("newer.pt", 999, {"data.pkl"}), "newer PyTorch");
  expect(archive("weights.pt", 3, {"data.pkl", "data/0"}), "without code");
  expect(archive("exported.pt2", 3, {"archive_format"}), "torch.export");
  expect(archive("other.zip", 3, {"readme"}), "no TorchScript archive");
  EXPECT_THAT(
      [&] {
        ScriptModule::load(
            archive("code.pt", 3, {"data.pkl", "constants.pkl", "code/a.py"}),
            at::kCPU);
      },
      refuses(HasSubstr("cannot be loaded")));
}

TEST_F(ScriptModuleFile, AModuleWithoutForwardIsRefused) {
  torch::jit::Module module("Silent");
  module.define("def backward(self, x):\n    return x\n");
  module.save(folder_ / "silent.pt");
  EXPECT_THAT([&] { ScriptModule::load(folder_ / "silent.pt", at::kCPU); },
              refuses(HasSubstr("no forward")));
}

TEST(InputSpec, ShapesTypesAndValuesComeFromText) {
  const auto specs = parse_input_shapes("8x128:int64:50,3,2x2:bfloat16");
  ASSERT_EQ(specs.size(), 3U);
  const auto inputs = make_inputs(specs, 1234, at::kCPU);
  EXPECT_EQ(inputs[0].sizes(), (std::vector<std::int64_t>{8, 128}));
  EXPECT_EQ(inputs[0].scalar_type(), at::kLong);
  EXPECT_LT(inputs[0].max().item<std::int64_t>(), 50);
  EXPECT_GE(inputs[0].min().item<std::int64_t>(), 0);
  EXPECT_EQ(inputs[1].scalar_type(), at::kFloat);
  EXPECT_LE(inputs[1].abs().max().item<float>(), 1);
  EXPECT_EQ(inputs[2].scalar_type(), at::kBFloat16);
  EXPECT_TRUE(inputs[0].equal(make_inputs(specs, 1234, at::kCPU)[0]));
  EXPECT_FALSE(inputs[0].equal(make_inputs(specs, 1, at::kCPU)[0]));
}

TEST(InputSpec, WhatIsNotUnderstoodIsQuoted) {
  for (const char* bad :
       {"", "8x", "0x4", "8x-1", "8x128:int65", "8x128:float32:7", "8:int64:0",
        "8:int64:5:5", "65536x65536", "8x4,", "8X4", "99999999999999999999"}) {
    EXPECT_THAT([&] { parse_input_shapes(bad); },
                refuses(HasSubstr("--input-shape")))
        << bad;
  }
}

}  // namespace
}  // namespace dai::intro
