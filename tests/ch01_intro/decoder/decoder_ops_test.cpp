// SPDX-License-Identifier: Apache-2.0

// Both rungs against the naive one in float64: values and every gradient.

#include "ch01_intro/decoder/decoder_ops.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <stdexcept>

#include "ch01_intro/decoder/cpu_product.h"
#include "ch01_intro/decoder/fused_device.h"
#include "ch01_intro/decoder/loss_chunk.h"
#include "ch01_intro/trainer/autocast.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

using Tensors = std::vector<at::Tensor>;
using Call = std::function<at::Tensor(const DecoderOps&, const Tensors&)>;

class DecoderOpsTest : public ::testing::Test {
 protected:
  DecoderOpsTest() { at::manual_seed(1234); }
  ~DecoderOpsTest() override { at::set_num_threads(1); }
};

// A leaf with the strides of `tensor`: to() would copy a slice into a whole.
at::Tensor leaf_like(const at::Tensor& tensor, at::ScalarType type) {
  return at::empty_strided(tensor.sizes(), tensor.strides(), type)
      .copy_(tensor)
      .requires_grad_();
}

// What came out and the gradients of all inputs, for a fixed gradient from
// above.
Tensors run(const DecoderOps& ops, const Call& call, const Tensors& inputs,
            at::ScalarType type) {
  Tensors leaves;
  for (const at::Tensor& input : inputs) {
    leaves.push_back(leaf_like(input, type));
  }
  const at::Tensor out = call(ops, leaves);
  at::Tensor from_above = at::linspace(-1, 1.5, out.numel(), at::kDouble)
                              .reshape(out.sizes())
                              .to(out.scalar_type());
  auto grads = torch::autograd::grad({out}, leaves, {from_above});
  grads.insert(grads.begin(), out);
  return grads;
}

// Largest difference by the largest element (at least 1: what cancels out is
// judged by its terms), over value and gradients.
void expect_equal(const Tensors& got, const Tensors& expected, double within) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].sizes(), expected[i].sizes());
    if (got[i].numel() == 0) continue;
    const at::Tensor e = expected[i].to(at::kDouble);
    const double off = (got[i].to(at::kDouble) - e).abs().max().item<double>();
    EXPECT_LE(off, within * std::max(1.0, e.abs().max().item<double>()))
        << (i == 0 ? "value" : "gradient of input ") << i - 1;
  }
}

void expect_rungs_agree(const Call& call, const Tensors& inputs,
                        double within = 2e-6) {
  const Tensors exact = run(naive_ops(), call, inputs, at::kDouble);
  expect_equal(run(naive_ops(), call, inputs, at::kFloat), exact, 4 * within);
  expect_equal(run(fused_ops(), call, inputs, at::kFloat), exact, within);
}

at::Tensor random(at::IntArrayRef shape) {
  return at::randn(shape, at::kDouble);
}

const Call kRmsNorm = [](const DecoderOps& ops, const Tensors& in) {
  return ops.rms_norm(in[0], in[1], 1e-5);
};
const Call kSwiGlu = [](const DecoderOps& ops, const Tensors& in) {
  return ops.swiglu(in[0], in[1]);
};
const Call kRope = [](const DecoderOps& ops, const Tensors& in) {
  const auto table = rope_table(300, in[0].size(-1), 10000, at::kCPU);
  return ops.rope(in[0], table);
};
Call token_loss_of(const at::Tensor& targets) {
  return [targets](const DecoderOps& ops, const Tensors& in) {
    return ops.token_loss(in[0], in[1], targets);
  };
}

TEST_F(DecoderOpsTest, RmsNormRungsAgree) {
  for (const std::int64_t hidden : {1, 5, 16, 37, 192}) {
    for (const std::int64_t rows : {1, 63, 64, 65, 200}) {
      expect_rungs_agree(kRmsNorm, {random({rows, hidden}), random({hidden})});
    }
  }
  expect_rungs_agree(kRmsNorm, {random({2, 3, 24}), random({24})});
  // Rows apart, and columns for rows.
  expect_rungs_agree(kRmsNorm,
                     {random({9, 48}).narrow(1, 7, 24), random({24})});
  expect_rungs_agree(kRmsNorm, {random({24, 9}).t(), random({24})});
}

TEST_F(DecoderOpsTest, RopeRungsAgree) {
  for (const std::int64_t head_dim : {2, 6, 16, 24, 64, 128}) {
    expect_rungs_agree(kRope, {random({2, 13, 3, head_dim})});
  }
  expect_rungs_agree(kRope, {random({3, 256, 12, 16})});
  // A slice of a fused projection; heads before positions in memory; a
  // sequence whose last dimension is not the nearest in memory.
  expect_rungs_agree(kRope, {random({2, 7, 3, 48}).narrow(3, 16, 16)});
  expect_rungs_agree(kRope, {random({2, 3, 7, 16}).transpose(1, 2)});
  expect_rungs_agree(kRope, {random({2, 7, 16, 3}).transpose(2, 3)});
}

TEST_F(DecoderOpsTest, RopeKeepsInnerProductsOfEqualDistance) {
  // q . k depends on the difference of positions only: the point of RoPE.
  const auto table = rope_table(64, 32, 10000, at::kCPU);
  const at::Tensor q = at::randn({32}).expand({1, 64, 1, 32});
  const at::Tensor k = at::randn({32}).expand({1, 64, 1, 32});
  for (const DecoderOps* ops : {&naive_ops(), &fused_ops()}) {
    const at::Tensor rq = ops->rope(q, table).squeeze();
    const at::Tensor rk = ops->rope(k, table).squeeze();
    const at::Tensor ahead = (rq.narrow(0, 5, 59) * rk.narrow(0, 0, 59)).sum(1);
    EXPECT_LT((ahead - ahead[0]).abs().max().item<float>(), 1e-4) << ops->name;
  }
}

TEST_F(DecoderOpsTest, SwiGluRungsAgree) {
  for (const std::int64_t ffn : {1, 7, 16, 129, 512}) {
    expect_rungs_agree(kSwiGlu, {random({33, ffn}) * 4, random({33, ffn})});
  }
  const at::Tensor both = random({2, 9, 80});  // one projection for both
  expect_rungs_agree(kSwiGlu, {both.narrow(2, 0, 40), both.narrow(2, 40, 40)});
  expect_rungs_agree(kSwiGlu, {random({20, 9}).t(), random({9, 20})});
}

TEST_F(DecoderOpsTest, TokenLossRungsAgree) {
  struct Shape {
    std::int64_t tokens, hidden, vocab;
  };
  for (const auto& [tokens, hidden, vocab] : {Shape{1, 1, 1},
                                              {3, 5, 7},
                                              {64, 16, 100},
                                              {65, 24, 333},
                                              {129, 12, 2049},
                                              {300, 20, 40000}}) {
    const at::Tensor targets = at::randint(vocab, {tokens}, at::kLong);
    targets.slice(0, 0, tokens, 5).fill_(kIgnoredTarget);
    expect_rungs_agree(token_loss_of(targets),
                       {random({tokens, hidden}), random({vocab, hidden})},
                       5e-6);
  }
  const at::Tensor targets = at::randint(50, {2 * 33}, at::kLong);
  expect_rungs_agree(token_loss_of(targets.slice(0, 0, 66, 2)),
                     {random({8, 33}).t(), random({50, 16}).slice(1, 0, 16, 2)},
                     5e-6);
}

// On this CPU's faster library; with at::linear in the naive role.
TEST_F(DecoderOpsTest, FusedLinearIsLinear) {
  const Call call = [](const DecoderOps& ops, const Tensors& in) {
    return ops.name == std::string("naive") ? at::linear(in[0], in[1])
                                            : fused_linear(in[0], in[1]);
  };
  expect_rungs_agree(call, {random({1, 1}), random({1, 1})});
  expect_rungs_agree(call, {random({2, 33, 48}), random({17, 48})}, 4e-6);
  expect_rungs_agree(call, {random({24, 130}).t(), random({24, 51}).t()}, 4e-6);
  expect_rungs_agree(call, {random({0, 8}), random({5, 8})});
  const Autocast guard(Precision::kBf16, at::kCPU);
  EXPECT_EQ(fused_linear(at::ones({2, 3}), at::ones({4, 3})).scalar_type(),
            at::kBFloat16);
}

TEST_F(DecoderOpsTest, ChunksOfTheLossAreWholeBlocksWithinTheirBytes) {
  for (const std::int64_t bytes : {kCpuLossBytes, kCudaLossBytes}) {
    for (const std::int64_t vocab : {0, 1, 1000, 32000, 128256, 10000000}) {
      const std::int64_t tokens = loss_chunk_tokens(vocab, bytes);
      EXPECT_EQ(tokens % kTokenBlock, 0) << vocab;
      EXPECT_GE(tokens, kTokenBlock) << vocab;
      EXPECT_LE(tokens, 4096) << vocab;
      EXPECT_TRUE(tokens == kTokenBlock || 4 * vocab * tokens <= bytes)
          << vocab;
    }
  }
}

TEST_F(DecoderOpsTest, NoRowsAreInOrder) {
  for (const DecoderOps* ops : {&naive_ops(), &fused_ops()}) {
    SCOPED_TRACE(ops->name);
    const auto grads =
        run(*ops, kRmsNorm, {random({0, 8}), random({8})}, at::kFloat);
    EXPECT_EQ(grads[1].sizes(), at::IntArrayRef({0, 8}));
    EXPECT_TRUE(grads[2].equal(at::zeros({8})));
    run(*ops, kSwiGlu, {random({0, 8}), random({0, 8})}, at::kFloat);
    run(*ops, kRope, {random({2, 0, 3, 8})}, at::kFloat);
    const auto loss = run(*ops, token_loss_of(at::empty({0}, at::kLong)),
                          {random({0, 8}), random({9, 8})}, at::kFloat);
    EXPECT_EQ(loss[0].item<float>(), 0);
    EXPECT_TRUE(loss[2].equal(at::zeros({9, 8})));
  }
}

TEST_F(DecoderOpsTest, IgnoredTokensGiveNoLossAndNoGradient) {
  for (const DecoderOps* ops : {&naive_ops(), &fused_ops()}) {
    const auto all = run(*ops, token_loss_of(at::full({9}, -100, at::kLong)),
                         {random({9, 8}), random({11, 8})}, at::kFloat);
    for (const at::Tensor& tensor : all) {
      EXPECT_EQ(tensor.abs().max().item<float>(), 0) << ops->name;
    }
  }
}

// Central differences of the fused value itself, in its own float32.
TEST_F(DecoderOpsTest, FusedGradientsAreSlopes) {
  const at::Tensor targets = at::randint(13, {6}, at::kLong);
  const std::vector<std::pair<Call, Tensors>> cases{
      {kRmsNorm, {random({6, 8}), random({8})}},
      {kRope, {random({1, 3, 2, 8})}},
      {kSwiGlu, {random({6, 9}), random({6, 9})}},
      {token_loss_of(targets), {random({6, 8}), random({13, 8})}}};
  for (const auto& [call, inputs] : cases) {
    const auto grads = run(fused_ops(), call, inputs, at::kFloat);
    const at::NoGradGuard no_grad;
    const at::Tensor from_above =
        at::linspace(-1, 1.5, grads[0].numel(), at::kDouble)
            .reshape(grads[0].sizes());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      for (std::int64_t e = 0; e < inputs[i].numel(); ++e) {
        const double step = 1e-2;
        const auto moved = [&](double by) {
          Tensors floats;
          for (const auto& in : inputs) floats.push_back(in.to(at::kFloat));
          floats[i] = floats[i].clone();
          floats[i].view(-1)[e] += by;
          return (call(fused_ops(), floats).to(at::kDouble) * from_above)
              .sum()
              .item<double>();
        };
        const double slope = (moved(step) - moved(-step)) / (2 * step);
        EXPECT_NEAR(grads[i + 1].view(-1)[e].item<double>(), slope,
                    3e-3 + 3e-3 * std::abs(slope));
      }
    }
  }
}

TEST_F(DecoderOpsTest, ThreadsDoNotChangeTheBits) {
  const at::Tensor targets = at::randint(5000, {333}, at::kLong);
  const std::vector<std::pair<Call, Tensors>> cases{
      {kRmsNorm, {random({700, 192}), random({192})}},
      {kRope, {random({4, 128, 12, 16})}},
      {kSwiGlu, {random({300, 512}), random({300, 512})}},
      {token_loss_of(targets), {random({333, 48}), random({5000, 48})}},
      {token_loss_of(targets.slice(0, 0, 1)),
       {random({1, 48}), random({5000, 48})}},
      {token_loss_of(targets.slice(0, 0, 40)),
       {random({40, 192}), random({5000, 192})}}};
  for (const auto& [call, inputs] : cases) {
    at::set_num_threads(1);
    const auto one = run(fused_ops(), call, inputs, at::kFloat);
    for (const int threads : {2, 3}) {
      at::set_num_threads(threads);
      const auto more = run(fused_ops(), call, inputs, at::kFloat);
      for (std::size_t i = 0; i < one.size(); ++i) {
        EXPECT_TRUE(one[i].equal(more[i])) << threads << " threads, " << i;
      }
    }
  }
}

TEST_F(DecoderOpsTest, LossIsScaledByWhatComesFromAbove) {
  const at::Tensor targets = at::randint(40, {20}, at::kLong);
  const auto gradient = [&](double factor) {
    at::Tensor head = at::ones({40, 8}).requires_grad_();
    const at::Tensor hidden = at::linspace(-1, 1, 160).view({20, 8});
    (fused_ops().token_loss(hidden, head, targets) * factor).backward();
    return head.grad().clone();
  };
  EXPECT_TRUE((gradient(1) * 0.25).equal(gradient(0.25)));
}

TEST_F(DecoderOpsTest, BfloatComesOutAsItWentIn) {
  const auto table = rope_table(8, 16, 10000, at::kCPU);
  for (const DecoderOps* ops : {&naive_ops(), &fused_ops()}) {
    SCOPED_TRACE(ops->name);
    const at::Tensor x = at::randn({2, 8, 3, 16}).to(at::kBFloat16);
    const at::Tensor weight = at::randn({16});
    const auto check = [&](const at::Tensor& got, const at::Tensor& exact) {
      EXPECT_EQ(got.scalar_type(), at::kBFloat16);
      EXPECT_LE((got.to(at::kFloat) - exact).abs().max().item<float>(),
                exact.abs().max().item<float>() / 256);
    };
    const at::Tensor wide = x.to(at::kFloat);
    check(ops->rms_norm(x, weight, 1e-5),
          naive_ops().rms_norm(wide, weight, 1e-5));
    check(ops->rope(x, table), naive_ops().rope(wide, table));
    check(ops->swiglu(x, x), naive_ops().swiglu(wide, wide));
  }
}

TEST_F(DecoderOpsTest, AutocastMultipliesInBfloatAndReturnsFloat) {
  const at::Tensor targets = at::randint(500, {150}, at::kLong);
  const Tensors inputs{random({150, 32}), random({500, 32}) * 0.3};
  const auto call = token_loss_of(targets);
  const auto exact = run(naive_ops(), call, inputs, at::kDouble);
  const auto plain = run(fused_ops(), call, inputs, at::kFloat);
  for (const DecoderOps* ops : {&naive_ops(), &fused_ops()}) {
    Tensors got;
    {
      const Autocast guard(Precision::kBf16, at::kCPU);
      got = run(*ops, call, inputs, at::kFloat);
    }
    for (const at::Tensor& tensor : got) {
      EXPECT_EQ(tensor.scalar_type(), at::kFloat) << ops->name;
    }
    EXPECT_FALSE(got[0].equal(plain[0])) << "no bfloat16 was used";
    expect_equal(got, exact, 0.03);
  }
  // float32 activations stay so: norms are not what autocast narrows.
  const Autocast guard(Precision::kBf16, at::kCPU);
  const at::Tensor x = at::randn({4, 32}), weight = at::randn({32});
  const at::Tensor normed = fused_ops().rms_norm(x, weight, 1e-5);
  EXPECT_EQ(normed.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::allclose(normed, naive_ops().rms_norm(x, weight, 1e-5)));
}

TEST_F(DecoderOpsTest, WithoutGradientsNothingIsKept) {
  const at::Tensor head = at::randn({9, 8}).requires_grad_();
  const at::Tensor hidden = at::randn({5, 8});
  const at::Tensor targets = at::randint(9, {5}, at::kLong);
  const at::Tensor with = fused_ops().token_loss(hidden, head, targets);
  EXPECT_TRUE(with.requires_grad());
  const at::NoGradGuard no_grad;
  const at::Tensor without = fused_ops().token_loss(hidden, head, targets);
  EXPECT_FALSE(without.requires_grad());
  EXPECT_TRUE(without.equal(with));
  EXPECT_FALSE(fused_ops().swiglu(head, head).grad_fn());
  EXPECT_FALSE(fused_ops().rms_norm(head, head[0], 1e-5).grad_fn());
}

TEST_F(DecoderOpsTest, NaNIsNotSwallowed) {
  for (const DecoderOps* ops : {&naive_ops(), &fused_ops()}) {
    const at::Tensor hidden = at::randn({70, 8});
    hidden[66][3] = std::nan("");
    const at::Tensor loss =
        ops->token_loss(hidden, at::randn({40, 8}), at::arange(70) % 40);
    EXPECT_TRUE(loss.isnan().item<bool>()) << ops->name;
  }
}

TEST_F(DecoderOpsTest, SecondDerivativeIsRefused) {
  const at::Tensor x = at::randn({4, 8}).requires_grad_();
  const at::Tensor targets = at::randint(4, {4}, at::kLong);
  const auto table = rope_table(4, 8, 10000, at::kCPU);
  for (const at::Tensor& out :
       {fused_ops().rms_norm(x, x.detach()[0], 1e-5), fused_ops().swiglu(x, x),
        fused_ops().rope(x.view({1, 4, 1, 8}), table),
        fused_ops().token_loss(x, x, targets)}) {
    try {
      torch::autograd::grad({out.sum()}, {x}, {}, true, /*create_graph=*/true);
      FAIL() << "no error";
    } catch (const std::logic_error& e) {
      EXPECT_NE(std::string(e.what()).find("create_graph"), std::string::npos);
    }
  }
  const at::Tensor loss = fused_ops().token_loss(x, x, targets);
  torch::autograd::grad({loss}, {x}, {}, /*retain_graph=*/true);
  EXPECT_THROW(torch::autograd::grad({loss}, {x}), std::logic_error);
}

void expect_refusal(const std::function<void()>& call,
                    const std::string& says) {
  try {
    call();
    FAIL() << "no error, expected: " << says;
  } catch (const std::exception& e) {
    EXPECT_NE(std::string(e.what()).find(says), std::string::npos) << e.what();
  }
}

TEST_F(DecoderOpsTest, WrongTargetsAreNamedWithTheirPosition) {
  for (const DecoderOps* ops : {&naive_ops(), &fused_ops()}) {
    for (const std::int64_t wrong : {40, -1, -99}) {
      const at::Tensor targets = at::zeros({8}, at::kLong);
      targets[5] = wrong;
      const std::string says =
          "target " + std::to_string(wrong) + " at position 5: 0 to 39";
      EXPECT_THROW(
          ops->token_loss(at::ones({8, 4}), at::ones({40, 4}), targets),
          UsageError);
      expect_refusal(
          [&] {
            ops->token_loss(at::ones({8, 4}), at::ones({40, 4}), targets);
          },
          says);
    }
  }
}

TEST_F(DecoderOpsTest, WrongShapesAndTypesAreNamed) {
  const auto table = rope_table(4, 8, 10000, at::kCPU);
  const at::Tensor a = at::ones({3, 8});
  for (const DecoderOps* ops : {&naive_ops(), &fused_ops()}) {
    expect_refusal([&] { ops->rms_norm(a, at::ones({7}), 1e-5); },
                   "x [3, 8] and weight [7]");
    expect_refusal([&] { ops->rope(at::ones({1, 5, 1, 8}), table); },
                   "a sequence of 5, but the table ends after 4");
    expect_refusal([&] { ops->rope(at::ones({1, 4, 1, 6}), table); },
                   "[batch, seq, heads, 8] is expected");
    expect_refusal([&] { ops->swiglu(a, at::ones({3, 7})); },
                   "gate [3, 8] and up [3, 7]");
    expect_refusal([&] { ops->token_loss(a, at::ones({9, 8}), at::ones({3})); },
                   "targets are Float, int64 is expected");
    expect_refusal(
        [&] { ops->token_loss(a, at::ones({9, 7}), at::ones({3}, at::kLong)); },
        "head [9, 7]");
  }
  expect_refusal([&] { fused_ops().swiglu(a.to(at::kDouble), a); },
                 "float32 or bfloat16 is expected, Double given");
  expect_refusal([] { rope_table(4, 7, 10000, at::kCPU); }, "head_dim 7");
}

}  // namespace
}  // namespace dai::intro
