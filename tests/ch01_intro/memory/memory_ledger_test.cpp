// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory/memory_ledger.h"

#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

namespace dai::intro {
namespace {

using C = MemoryCategory;

constexpr std::int64_t kIn = 12, kOut = 36, kBatch = 5;
constexpr std::int64_t kFloat = sizeof(float);

TEST(MemoryLedger, SeesEveryTensorToTheByte) {
  MemoryLedger ledger;
  const at::Tensor a = at::empty({1000}, at::kFloat);
  EXPECT_EQ(ledger.live_bytes(), 4000);
  {
    const at::Tensor b = at::empty({7, 3}, at::kDouble);
    EXPECT_EQ(ledger.live_bytes(), 4000 + 21 * 8);
    const at::Tensor view = a.view({10, 100}).t();
    EXPECT_EQ(ledger.live_bytes(), 4000 + 21 * 8);
  }
  EXPECT_EQ(ledger.live_bytes(), 4000);
}

TEST(MemoryLedger, TensorsMayBeOlderAndYoungerThanIt) {
  at::Tensor before = at::ones({10}, at::kFloat), after;
  {
    MemoryLedger ledger;
    after = at::ones({20}, at::kFloat);
    before.reset();
    EXPECT_EQ(ledger.live_bytes(), 20 * kFloat);
    EXPECT_THROW(MemoryLedger second, std::logic_error);
  }
  EXPECT_EQ(after.sum().item<float>(), 20);
  after.reset();
  MemoryLedger next;
  EXPECT_EQ(next.live_bytes(), 0);
}

// One step of a linear layer with AdamW, each byte worked out by hand.
TEST(MemoryLedger, ATrainingStepByHand) {
  MemoryLedger ledger;
  const at::Tensor input = at::ones({kBatch, kIn}, at::kFloat);
  at::Tensor weight = at::ones({kOut, kIn}, at::kFloat).requires_grad_();
  at::Tensor m = at::zeros_like(weight.detach());
  at::Tensor v = at::zeros_like(weight.detach());
  const at::Tensor step = at::zeros({}, at::kFloat);
  ledger.claim(input, C::kBuffers);
  ledger.claim(weight, C::kParameters);
  for (const auto& state : {m, v, step}) ledger.claim(state, C::kOptimizer);
  at::Tensor loss;
  {
    MemoryPhase phase(&ledger, "forward", /*saves=*/true);
    MemoryModule module(&ledger, "linear");
    loss = input.matmul(weight.t()).square().sum();
  }
  {
    MemoryPhase phase(&ledger, "backward");
    loss.backward();
    loss.reset();
  }
  ledger.claim(weight.grad(), C::kGradients);
  {
    MemoryPhase phase(&ledger, "optimizer");
    std::vector<at::Tensor> p{weight.detach()}, g{weight.grad()}, ms{m}, vs{v},
        steps{step};
    at::_fused_adamw_(p, g, ms, vs, {}, steps, /*lr=*/0.1, 0.9, 0.999, 0.01,
                      1e-8, /*amsgrad=*/false, /*maximize=*/false);
  }
  const MemoryReport report = ledger.report();
  const std::int64_t weights = kOut * kIn * kFloat;
  EXPECT_EQ(report.at_end[C::kParameters], weights);
  EXPECT_EQ(report.at_end[C::kGradients], weights);
  EXPECT_EQ(report.at_end[C::kOptimizer], 2 * weights + kFloat);
  EXPECT_EQ(report.at_end[C::kBuffers], kBatch * kIn * kFloat);
  EXPECT_EQ(report.at_end[C::kActivations], 0);
  EXPECT_EQ(report.at_end[C::kOther], 0);
  ASSERT_EQ(report.phases.size(), 3U);
  // square() saves the product; the loss itself is one float.
  EXPECT_EQ(report.phases[0].at_end[C::kActivations],
            kBatch * kOut * kFloat + kFloat);
  EXPECT_GT(report.phases[1].peak[C::kTemporary], 0);
  EXPECT_EQ(report.at_end.total(), ledger.live_bytes());
}

TEST(MemoryLedger, ClaimsNothingWhereThereAreNoBytes) {
  MemoryLedger ledger;
  ledger.claim(at::Tensor(), C::kGradients);
  ledger.claim(at::empty({0}, at::kFloat), C::kGradients);
  ledger.claim(at::empty({5}, at::TensorOptions(at::kMeta)), C::kGradients);
  EXPECT_EQ(ledger.report().at_end.total(), 0);
}

TEST(MemoryLedger, NoLedgerNoCost) {
  MemoryPhase phase(nullptr, "forward");
  MemoryModule module(nullptr, "linear");
}

}  // namespace
}  // namespace dai::intro
