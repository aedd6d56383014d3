// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/sync/naive_ddp.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "ch01_intro/counter_random.h"
#include "ch01_intro/sync/canonical_sum.h"
#include "tests/support/distributed_test.h"

namespace dai::intro {
namespace {

constexpr std::int64_t kMicrobatches = 12;

// Runs one step; `backward(id)` computes one microbatch's gradients.
template <typename Backward>
void run_step(GradientSync& sync, Backward backward) {
  ProcessGroup& group = testing::group();
  const std::int64_t mine = kMicrobatches / group.size();
  sync.begin_step();
  for (std::int64_t k = 0; k < mine; ++k) {
    const Microbatch microbatch{group.rank() * mine + k, k + 1 == mine};
    sync.before_forward(microbatch);
    backward(microbatch.id);
    sync.after_backward(microbatch);
  }
  sync.finish_step();
}

// d/dw (w * c).sum() = c; the mean of 12 * f(0..11) is the sum of f: an
// integer, exact in any order of additions.
TEST(NaiveDdp, MeanEqualsAPlainLoop) {
  const at::TensorOptions on_device(testing::group().device());
  const auto f = [](std::int64_t id, int p) { return id * id + 5 * p; };
  std::vector<NamedParameter> weights;
  for (int p = 0; p < 3; ++p) {
    weights.push_back({"weight" + std::to_string(p),
                       at::zeros({p + 1, 3}, on_device).requires_grad_(true)});
  }
  NaiveDdp sync(weights, kMicrobatches, &testing::group());
  for (int step = 0; step < 2; ++step) {  // the second must forget the first
    run_step(sync, [&](std::int64_t id) {
      for (int p = 0; p < 3; ++p) {
        (weights[p].tensor * (kMicrobatches * f(id, p))).sum().backward();
      }
    });
    for (int p = 0; p < 3; ++p) {
      float expected = 0;
      for (int id = 0; id < kMicrobatches; ++id) expected += f(id, p);
      EXPECT_TRUE(at::equal(weights[p].tensor.grad(),
                            at::full({p + 1, 3}, expected, on_device)))
          << weights[p].name << " in step " << step;
    }
  }
}

TEST(NaiveDdp, AgreesWithTheCanonicalMeanUpToRounding) {
  const at::Device device = testing::group().device();
  const auto noise = [&](const char* name, std::int64_t id,
                         at::IntArrayRef shape) {
    at::Tensor tensor = at::empty(shape, at::kFloat);
    const std::uint64_t key = stream_key(id, name);
    for (std::int64_t i = 0; i < tensor.numel(); ++i) {
      tensor.data_ptr<float>()[i] = uniform01(key, i) - 0.5f;
    }
    return tensor.to(device);
  };
  // Two layers: gradients of many sizes, none of them exact.
  const std::vector<NamedParameter> weights{
      {"first", noise("first", 0, {40, 30}).requires_grad_(true)},
      {"second", noise("second", 0, {7, 40}).requires_grad_(true)}};
  const auto backward = [&](std::int64_t id) {
    const at::Tensor hidden =
        noise("inputs", id, {8, 30}).matmul(weights[0].tensor.t()).tanh();
    const at::Tensor out = hidden.matmul(weights[1].tensor.t());
    (out - noise("targets", id, {8, 7})).square().mean().backward();
  };
  const auto gradients_by = [&](GradientSync&& sync) {
    run_step(sync, backward);
    std::vector<at::Tensor> gradients;
    for (const auto& parameter : weights) {
      gradients.push_back(parameter.tensor.grad().clone());
    }
    return gradients;
  };
  ProcessGroup* const group = &testing::group();
  const auto naive = gradients_by(NaiveDdp(weights, kMicrobatches, group));
  const auto canonical =
      gradients_by(CanonicalSync(weights, kMicrobatches, group));
  for (std::size_t p = 0; p < naive.size(); ++p) {
    const double scale = canonical[p].abs().max().item<double>();
    const double error = naive[p].sub(canonical[p]).abs().max().item<double>();
    EXPECT_GT(scale, 0);
    EXPECT_LE(error, 2e-6 * scale) << weights[p].name;
  }
}

}  // namespace
}  // namespace dai::intro
