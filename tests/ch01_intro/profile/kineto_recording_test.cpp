// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/profile/kineto_recording.h"

#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/silu.h>
#include <ATen/record_function.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/custom_function.h>

#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

namespace dai::intro {
namespace {

at::Tensor ones(at::IntArrayRef shape) {
  return at::ones(shape, at::kFloat).requires_grad_();
}

OperatorProfile profile_of(const std::function<void()>& work, int steps = 1) {
  KinetoRecording recording(at::kCPU);
  for (int i = 0; i < steps; ++i) recording.step(work);
  return sort_events(recording.stop());
}

std::int64_t calls(const OperatorProfile& profile, const std::string& name) {
  for (const OperatorRow& row : profile.operators) {
    if (row.name == name) return row.calls;
  }
  return 0;
}

std::int64_t backward_of(const OperatorProfile& profile,
                         const std::string& module) {
  for (const ModuleRow& row : profile.modules) {
    if (row.name == module) return row.backward_ns;
  }
  return 0;
}

TEST(KinetoRecording, SeesEachOperatorOfEachStep) {
  const at::Tensor a = at::ones({8, 8});
  const OperatorProfile profile = profile_of(
      [&] {
        a.mm(a);
        a.mm(a);
      },
      3);
  EXPECT_EQ(profile.steps, 3);
  EXPECT_EQ(calls(profile, "aten::mm"), 6);
  EXPECT_GT(profile.wall_ns, 0);
  EXPECT_EQ(profile.self_ns(), profile.wall_ns);
  EXPECT_EQ(profile.escaped, 0);
}

TEST(KinetoRecording, BackwardBelongsToTheScopeOfItsForward) {
  const at::Tensor x = ones({16, 16}), w = ones({16, 16});
  const OperatorProfile profile = profile_of([&] {
    at::Tensor y;
    {
      RECORD_USER_SCOPE("first");
      y = x.mm(w);
    }
    {
      RECORD_USER_SCOPE("second");
      y = at::silu(y);
    }
    y.sum().backward();
  });
  EXPECT_THAT(profile.idle_modules({"first", "second"}), ::testing::IsEmpty());
  // x's and w's gradients are written down there as well.
  EXPECT_EQ(calls(profile, "torch::autograd::AccumulateGrad"), 2);
}

struct Doubled : torch::autograd::Function<Doubled> {
  static at::Tensor forward(torch::autograd::AutogradContext*,
                            const at::Tensor& x) {
    return x * 2;
  }
  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext*,
      const torch::autograd::variable_list& grads) {
    return {grads[0] * 2};
  }
};

TEST(KinetoRecording, AnOwnFunctionsBackwardToo) {
  const at::Tensor x = ones({16, 16});
  const OperatorProfile profile = profile_of([&] {
    at::Tensor y = x.mm(x);  // in no scope, right before
    {
      RECORD_USER_SCOPE("mine");
      y = Doubled::apply(y);
    }
    y.sum().backward();
  });
  EXPECT_THAT(profile.idle_modules({"mine"}), ::testing::IsEmpty());
  EXPECT_GT(backward_of(profile, ""), 0);
}

TEST(KinetoRecording, KinetoCountsProductsAndNoAttention) {
  const at::Tensor a = at::ones({8, 8}), q = at::ones({1, 2, 16, 8});
  const auto flops = [](const std::function<void()>& work) {
    KinetoRecording recording(at::kCPU, /*flops=*/true);
    recording.step(work);
    return sort_events(recording.stop()).flops;
  };
  EXPECT_EQ(flops([&] { a.mm(a); }), 2 * 8 * 8 * 8);
  EXPECT_EQ(flops([&] { at::scaled_dot_product_attention(q, q, q); }), 0);
}

TEST(KinetoRecording, WhatAStepThrowsPassesAndTheNextRecordingWorks) {
  const at::Tensor a = at::ones({8, 8});
  EXPECT_THROW(profile_of([] { throw std::runtime_error("no data"); }),
               std::runtime_error);
  EXPECT_EQ(calls(profile_of([&] { a.mm(a); }), "aten::mm"), 1);
}

TEST(KinetoRecording, OneAtATimeAndInOrder) {
  KinetoRecording recording(at::kCPU);
  EXPECT_THROW(KinetoRecording second(at::kCPU), std::logic_error);
  EXPECT_THROW(recording.chrome_trace(), std::logic_error);
  recording.step([] { at::ones({2}); });
  recording.stop();
  EXPECT_THROW(recording.stop(), std::logic_error);
  EXPECT_THROW(recording.step([] {}), std::logic_error);
}

TEST(KinetoRecording, TheTraceHoldsScopesAndOperators) {
  const at::Tensor a = at::ones({8, 8});
  KinetoRecording recording(at::kCPU);
  recording.step([&] {
    RECORD_USER_SCOPE("head");
    a.mm(a);
  });
  recording.stop();
  const auto trace = nlohmann::json::parse(recording.chrome_trace());
  std::set<std::string> names;
  for (const auto& event : trace.at("traceEvents")) {
    names.insert(event.at("name"));
  }
  EXPECT_THAT(names, ::testing::IsSupersetOf({"step", "head", "aten::mm"}));
}

}  // namespace
}  // namespace dai::intro
