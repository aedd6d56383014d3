// SPDX-License-Identifier: Apache-2.0

// The fused operations on CUDA against themselves on the CPU.

#include <ATen/ATen.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>
#include <vector>

#include "ch01_intro/decoder/decoder_ops.h"
#include "ch01_intro/decoder/fused_device.h"
#include "ch01_intro/decoder/loss_chunk.h"
#include "ch01_intro/trainer/autocast.h"
#include "common/errors.h"
#include "common/torch/device.h"
#include "tests/support/distributed_test.h"

namespace dai::intro {
namespace {

using Tensors = std::vector<at::Tensor>;
using Call = std::function<at::Tensor(const Tensors&)>;

const bool kNeedsCuda = dai::testing::need_cuda();

class DecoderOpsCuda : public ::testing::Test {
 protected:
  DecoderOpsCuda() { at::manual_seed(1234); }
};

at::Device cuda() {
  return choose_device("cuda", dai::testing::launch());
}

// A leaf with the strides of `tensor`: to() would copy a slice into a whole.
at::Tensor leaf_like(const at::Tensor& tensor, at::Device device,
                     at::ScalarType type) {
  const auto options = at::TensorOptions(device).dtype(type);
  return at::empty_strided(tensor.sizes(), tensor.strides(), options)
      .copy_(tensor)
      .requires_grad_();
}

Tensors run(const Call& call, const Tensors& inputs, at::Device device,
            at::ScalarType type) {
  Tensors leaves;
  for (const at::Tensor& input : inputs) {
    leaves.push_back(leaf_like(input, device, type));
  }
  const at::Tensor out = call(leaves);
  const at::Tensor from_above = at::linspace(-1, 1.5, out.numel())
                                    .reshape(out.sizes())
                                    .to(device, out.scalar_type());
  auto grads = torch::autograd::grad({out}, leaves, {from_above});
  grads.insert(grads.begin(), out);
  return grads;
}

void expect_devices_agree(const Call& call, const Tensors& inputs,
                          double float_within = 2e-5) {
  for (const auto& [type, within] :
       {std::pair{at::kFloat, float_within}, {at::kBFloat16, 0.03}}) {
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

TEST_F(DecoderOpsCuda, RmsNormIsTheCpus) {
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

TEST_F(DecoderOpsCuda, RmsNormOfStridedRowsIsTheCpus) {
  const Call call = [](const Tensors& in) {
    return fused_ops().rms_norm(in[0], in[1], 1e-5);
  };
  expect_devices_agree(call,
                       {at::randn({9, 48}).narrow(1, 7, 24), at::randn({24})});
  expect_devices_agree(call, {at::randn({24, 9}).t(), at::randn({24})});
  expect_devices_agree(call, {at::randn({2, 3, 24}), at::randn({24})});
}

TEST_F(DecoderOpsCuda, RopeIsTheCpus) {
  const Call call = [](const Tensors& in) {
    return fused_ops().rope(
        in[0], rope_table(64, in[0].size(3), 10000, in[0].device()));
  };
  expect_devices_agree(call, {at::randn({2, 64, 3, 16})});
  expect_devices_agree(call, {at::randn({2, 3, 7, 6}).transpose(1, 2)});
  expect_devices_agree(call, {at::randn({2, 7, 3, 48}).narrow(3, 16, 16)});
  expect_devices_agree(call, {at::randn({2, 7, 16, 3}).transpose(2, 3)});
  expect_devices_agree(call, {at::randn({2, 0, 3, 16})});
}

TEST_F(DecoderOpsCuda, SwiGluIsTheCpus) {
  const Call call = [](const Tensors& in) {
    return fused_ops().swiglu(in[0], in[1]);
  };
  expect_devices_agree(call, {at::randn({33, 129}) * 4, at::randn({33, 129})});
  const at::Tensor both = at::randn({2, 9, 80});  // one projection for both
  expect_devices_agree(call, {both.narrow(2, 0, 40), both.narrow(2, 40, 40)});
  expect_devices_agree(call, {at::randn({20, 9}).t(), at::randn({9, 20})});
  expect_devices_agree(call, {at::randn({0, 8}), at::randn({0, 8})});
}

TEST_F(DecoderOpsCuda, TokenLossIsTheCpus) {
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

TEST_F(DecoderOpsCuda, TokenLossOfStridedInputsIsTheCpus) {
  const at::Tensor targets = at::randint(50, {2 * 33}, at::kLong);
  expect_devices_agree(
      [&](const Tensors& in) {
        const at::Tensor here = targets.to(in[0].device());
        return fused_ops().token_loss(in[0], in[1], here.slice(0, 0, 66, 2));
      },
      {at::randn({8, 33}).t() * 0.3, at::randn({50, 16}).slice(1, 0, 16, 2)});
}

TEST_F(DecoderOpsCuda, ChunksOfTheLossAreOneLoss) {
  // A vocabulary of which few tokens make a chunk: several, the last one short.
  // The product that sums over it rounds to the target's -1 in each of 300000
  // terms of some 1e-6, in an order that is the library's.
  const std::int64_t vocab = 300000;
  const std::int64_t tokens = 2 * loss_chunk_tokens(vocab, kCudaLossBytes) + 5;
  const at::Tensor targets = at::randint(vocab, {tokens}, at::kLong);
  expect_devices_agree(
      [&](const Tensors& in) {
        return fused_ops().token_loss(in[0], in[1], targets.to(in[0].device()));
      },
      {at::randn({tokens, 8}) * 0.3, at::randn({vocab, 8})}, 2e-4);
}

TEST_F(DecoderOpsCuda, AutocastMultipliesInBfloatAndReturnsFloat) {
  const at::Tensor targets = at::randint(500, {150}, at::kLong);
  const Tensors inputs{at::randn({150, 32}), at::randn({500, 32}) * 0.3};
  const Call call = [&](const Tensors& in) {
    return fused_ops().token_loss(in[0], in[1], targets.to(in[0].device()));
  };
  const Tensors exact = run(call, inputs, at::kCPU, at::kFloat);
  const Tensors plain = run(call, inputs, cuda(), at::kFloat);
  Tensors got;
  {
    const Autocast guard(Precision::kBf16, cuda());
    got = run(call, inputs, cuda(), at::kFloat);
  }
  EXPECT_FALSE(got[0].equal(plain[0])) << "no bfloat16 was used";
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].scalar_type(), at::kFloat);
    EXPECT_LE((got[i].cpu() - exact[i]).abs().max().item<float>(),
              0.03 * std::max(1.0F, exact[i].abs().max().item<float>()));
  }
}

TEST_F(DecoderOpsCuda, FollowsTheCurrentStream) {
  const at::Tensor x = at::randn({4096, 1024}).to(cuda());
  const at::Tensor weight = at::randn({1024}).to(cuda());
  const at::Tensor expected =
      fused_ops().rms_norm(x * 2 * 2 * 2, weight, 1e-5).cpu();
  c10::cuda::device_synchronize();
  const auto side = c10::cuda::getStreamFromPool();
  at::Tensor got;
  {
    const c10::cuda::CUDAStreamGuard guard(side);
    // On another stream the kernel would read before the products are written.
    got = fused_ops().rms_norm(x * 2 * 2 * 2, weight, 1e-5).cpu();
  }
  EXPECT_TRUE(got.equal(expected));
}

TEST_F(DecoderOpsCuda, IgnoredTokensGiveNoLossAndNoGradient) {
  for (const at::Tensor& tensor : run(
           [](const Tensors& in) {
             const at::Tensor none = at::full({9}, kIgnoredTarget, at::kLong);
             return fused_ops().token_loss(in[0], in[1], none.to(cuda()));
           },
           {at::randn({9, 8}), at::randn({11, 8})}, cuda(), at::kFloat)) {
    EXPECT_EQ(tensor.abs().max().item<float>(), 0);
  }
}

TEST_F(DecoderOpsCuda, BadTargetsAndNaNAreSeen) {
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
