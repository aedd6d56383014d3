// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/reducer/module_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

#include <memory>

#include "ch03_ddp/reducer/distributed_data_parallel.h"
#include "tests/support/distributed_test.h"

namespace dai::ddp {
namespace {

using dai::testing::group;
using ::testing::ElementsAre;

struct Net : torch::nn::Module {
  Net() {
    embed = register_module(
        "embed",
        torch::nn::Embedding(torch::nn::EmbeddingOptions(6, 4).sparse(true)));
    norm = register_module("norm", torch::nn::BatchNorm1d(4));
    head = register_module("head", torch::nn::Linear(4, 3));
    tied = register_parameter("tied", head->weight);
    head->bias.requires_grad_(false);
  }
  at::Tensor forward(const at::Tensor& tokens) {
    const at::Tensor x = norm->forward(embed->forward(tokens));
    return head->forward(x) + x.matmul(tied.t());
  }
  torch::nn::Embedding embed{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
  torch::nn::Linear head{nullptr};
  at::Tensor tied;
};

std::vector<std::string> names(const std::vector<intro::NamedParameter>& list) {
  std::vector<std::string> all;
  for (const auto& each : list) all.push_back(each.name);
  return all;
}

TEST(TensorsOf, NamesWhatTheModuleRegistered) {
  Net net;
  const ModelTensors model = tensors_of(net);
  EXPECT_THAT(names(model.parameters),
              ElementsAre("tied", "embed.weight", "norm.weight", "norm.bias",
                          "head.bias"));
  EXPECT_THAT(names(model.buffers),
              ElementsAre("norm.running_mean", "norm.running_var",
                          "norm.num_batches_tracked"));
  EXPECT_THAT(model.sparse, ElementsAre("embed.weight"));
  EXPECT_FALSE(model.parameters[4].tensor.requires_grad());
}

// A module of torch::nn as it is, with running means and a tied weight.
TEST(TensorsOf, IsEnoughToTrain) {
  if (group().backend_name() != "gloo") {
    GTEST_SKIP() << "only Gloo reduces sparse tensors";
  }
  Net net;
  DistributedDataParallel ddp(tensors_of(net), group());
  const at::Tensor tokens =
      (at::arange(5) + group().rank()).remainder(6).to(at::kLong);
  for (int step = 0; step < 3; ++step) {
    net.zero_grad();
    ddp.forward([&] { return net.forward(tokens); }).square().sum().backward();
    at::Tensor rank0 = net.head->weight.grad().clone();
    group().broadcast(rank0);
    EXPECT_TRUE(at::equal(rank0, net.head->weight.grad()));
    EXPECT_TRUE(net.embed->weight.grad().is_sparse());
    EXPECT_FALSE(net.head->bias.grad().defined());
  }
}

}  // namespace
}  // namespace dai::ddp
