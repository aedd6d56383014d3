// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/trainer/adamw.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>
#include <vector>

#include "ch01_intro/counter_random.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

at::Tensor noise(const char* name, at::IntArrayRef shape) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  const std::uint64_t key = stream_key(1234, name);
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    tensor.data_ptr<float>()[i] = uniform01(key, i) - 0.5f;
  }
  return tensor;
}

// The paper's formula, element by element, in double.
struct Reference {
  std::vector<double> w, m, v;
  int t = 0;
  explicit Reference(const at::Tensor& start)
      : w(start.data_ptr<float>(), start.data_ptr<float>() + start.numel()),
        m(w.size()),
        v(w.size()) {}
  void step(const at::Tensor& grad, double lr, const AdamWOptions& o,
            double decay) {
    ++t;
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double g = grad.data_ptr<float>()[i];
      m[i] = o.beta1 * m[i] + (1 - o.beta1) * g;
      v[i] = o.beta2 * v[i] + (1 - o.beta2) * g * g;
      const double m_hat = m[i] / (1 - std::pow(o.beta1, t));
      const double v_hat = v[i] / (1 - std::pow(o.beta2, t));
      w[i] -= lr * (decay * w[i] + m_hat / (std::sqrt(v_hat) + o.eps));
    }
  }
};

TEST(AdamW, FollowsTheFormula) {
  const AdamWOptions options{.weight_decay = 0.2};
  at::Tensor matrix = noise("matrix", {37, 5}).requires_grad_();
  at::Tensor vector = noise("vector", {11}).requires_grad_();
  Reference matrix_reference(matrix), vector_reference(vector);
  WholeParameters view({{"matrix", matrix}, {"vector", vector}});
  AdamW optimizer(view, options);
  for (int step = 0; step < 20; ++step) {
    const double lr = 0.01 / (1 + step);
    matrix.mutable_grad() =
        noise(("m" + std::to_string(step)).c_str(), {37, 5});
    vector.mutable_grad() = noise(("v" + std::to_string(step)).c_str(), {11});
    optimizer.step(lr);
    matrix_reference.step(matrix.grad(), lr, options, options.weight_decay);
    vector_reference.step(vector.grad(), lr, options, 0);  // does not decay
  }
  for (std::size_t i = 0; i < matrix_reference.w.size(); ++i) {
    EXPECT_NEAR(matrix.data_ptr<float>()[i], matrix_reference.w[i], 1e-6) << i;
  }
  for (std::size_t i = 0; i < vector_reference.w.size(); ++i) {
    EXPECT_NEAR(vector.data_ptr<float>()[i], vector_reference.w[i], 1e-6) << i;
  }
}

// A parameter cut into slices, as ZeRO and FSDP will hold it.
class HalvesView : public ParameterView {
 public:
  explicit HalvesView(at::Tensor whole) : whole_(std::move(whole)) {}
  std::vector<ParameterSlice> slices() override {
    const at::Tensor value = whole_.detach().view({-1});
    const at::Tensor grad = whole_.grad().view({-1});
    const std::int64_t cut = 3 * kSliceAlignment;
    return {{"whole[:192]", value.narrow(0, 0, cut), grad.narrow(0, 0, cut)},
            {"whole[192:]", value.narrow(0, cut, value.numel() - cut),
             grad.narrow(0, cut, value.numel() - cut)}};
  }
  at::Tensor squared_norm_blocks() override {
    throw std::logic_error("not asked for here");
  }
  void after_update() override { ++updates; }
  int updates = 0;

 private:
  at::Tensor whole_;
};

TEST(AdamW, TheBitsDoNotDependOnHowAParameterIsCut) {
  at::Tensor whole = noise("w", {9, 31}).requires_grad_();
  at::Tensor cut = noise("w", {9, 31}).requires_grad_();
  whole.mutable_grad() = noise("g", {9, 31});
  cut.mutable_grad() = noise("g", {9, 31});
  WholeParameters whole_view({{"w", whole}});
  HalvesView cut_view(cut);
  AdamW one(whole_view, {}), two(cut_view, {});
  for (int step = 0; step < 5; ++step) {
    one.step(0.01);
    two.step(0.01);
  }
  EXPECT_TRUE(whole.equal(cut));
  EXPECT_EQ(cut_view.updates, 5);
}

TEST(AdamW, MisuseIsNamed) {
  at::Tensor w = noise("w", {4}).requires_grad_();
  WholeParameters view({{"w", w}});
  AdamW optimizer(view, {});
  EXPECT_THROW(optimizer.step(0.1), std::logic_error);  // no gradient
  EXPECT_THROW(AdamW(view, {.beta1 = 1}), UsageError);
  EXPECT_THROW(AdamW(view, {.eps = 0}), UsageError);
  EXPECT_THROW(AdamW(view, {.weight_decay = -1}), UsageError);
}

}  // namespace
}  // namespace dai::intro
