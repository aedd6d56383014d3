// SPDX-License-Identifier: Apache-2.0

// The fused operations on CUDA against themselves on the CPU.

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>

#include "ch01_intro/decoder/decoder_ops.h"
#include "common/errors.h"
#include "common/torch/device.h"
#include "tests/support/distributed_test.h"

namespace dai::intro {
namespace {

using Tensors = std::vector<at::Tensor>;
using Call = std::function<at::Tensor(const Tensors&)>;

const bool kNeedsCuda = dai::testing::need_cuda();

at::Device cuda() {
  return choose_device("cuda", dai::testing::launch());
}

Tensors run(const Call& call, const Tensors& inputs, at::Device device,
            at::ScalarType type) {
  Tensors leaves;
  for (const at::Tensor& input : inputs) {
    leaves.push_back(input.to(device, type).requires_grad_());
  }
  const at::Tensor out = call(leaves);
  const at::Tensor from_above = at::linspace(-1, 1.5, out.numel())
                                    .reshape(out.sizes())
                                    .to(device, out.scalar_type());
  auto grads = torch::autograd::grad({out}, leaves, {from_above});
  grads.insert(grads.begin(), out);
  return grads;
}

void expect_devices_agree(const Call& call, const Tensors& inputs) {
  for (const auto& [type, within] :
       {std::pair{at::kFloat, 2e-5}, {at::kBFloat16, 0.03}}) {
    const Tensors cpu = run(call, inputs, at::kCPU, type);
    const Tensors gpu = run(call, inputs, cuda(), type);
    const Tensors again = run(call, inputs, cuda(), type);
    for (std::size_t i = 0; i < cpu.size(); ++i) {
      EXPECT_TRUE(gpu[i].is_cuda());
      EXPECT_TRUE(gpu[i].equal(again[i])) << "not the same bits twice";
      if (cpu[i].numel() == 0) continue;
      const at::Tensor e = cpu[i].to(at::kDouble);
      EXPECT_LE((gpu[i].cpu().to(at::kDouble) - e).abs().max().item<double>(),
                within * std::max(1.0, e.abs().max().item<double>()))
          << "tensor " << i << " of " << at::toString(type);
    }
  }
}

TEST(DecoderOpsCuda, RmsNormIsTheCpus) {
  for (const std::int64_t hidden : {1, 5, 192, 255, 256, 1000}) {
    for (const std::int64_t rows : {0, 1, 15, 16, 33}) {
      expect_devices_agree(
          [](const Tensors& in) {
            return fused_ops().rms_norm(in[0], in[1], 1e-5);
          },
          {at::randn({rows, hidden}), at::randn({hidden})});
    }
  }
}

TEST(DecoderOpsCuda, RopeIsTheCpus) {
  const Call call = [](const Tensors& in) {
    return fused_ops().rope(
        in[0], rope_table(64, in[0].size(3), 10000, in[0].device()));
  };
  expect_devices_agree(call, {at::randn({2, 64, 3, 16})});
  expect_devices_agree(call, {at::randn({2, 3, 7, 6}).transpose(1, 2)});
  expect_devices_agree(call, {at::randn({2, 7, 3, 48}).narrow(3, 16, 16)});
}

TEST(DecoderOpsCuda, SwiGluIsTheCpus) {
  expect_devices_agree(
      [](const Tensors& in) { return fused_ops().swiglu(in[0], in[1]); },
      {at::randn({33, 129}) * 4, at::randn({33, 129})});
}

TEST(DecoderOpsCuda, TokenLossIsTheCpus) {
  for (const std::int64_t tokens : {0, 1, 70, 5000}) {
    at::Tensor targets = at::randint(301, {tokens}, at::kLong);
    if (tokens > 3) targets[3] = kIgnoredTarget;
    expect_devices_agree(
        [&](const Tensors& in) {
          return fused_ops().token_loss(in[0], in[1],
                                        targets.to(in[0].device()));
        },
        {at::randn({tokens, 24}) * 0.3, at::randn({301, 24})});
  }
}

TEST(DecoderOpsCuda, BadTargetsAndNaNAreSeen) {
  const at::Tensor hidden = at::ones({4, 8}).to(cuda());
  const at::Tensor head = at::ones({9, 8}).to(cuda());
  const at::Tensor targets = at::zeros({4}, at::kLong).to(cuda());
  hidden[2][1] = std::nan("");
  const at::Tensor loss = fused_ops().token_loss(hidden, head, targets);
  EXPECT_TRUE(loss.isnan().item<bool>());
  targets[3] = 9;
  EXPECT_THROW(fused_ops().token_loss(hidden, head, targets), UsageError);
}

}  // namespace
}  // namespace dai::intro
