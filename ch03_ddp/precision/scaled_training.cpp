// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/precision/scaled_training.h"

#include <torch/csrc/autograd/custom_function.h>

#include <utility>

#include "ch01_intro/sync/step_clock.h"

namespace dai::ddp {
namespace {

struct ScaleGradient : torch::autograd::Function<ScaleGradient> {
  static at::Tensor forward(torch::autograd::AutogradContext* context,
                            const at::Tensor& value, double factor) {
    context->saved_data["factor"] = factor;
    return value.clone();
  }
  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context,
      torch::autograd::variable_list gradients) {
    return {gradients[0] * context->saved_data["factor"].toDouble(),
            at::Tensor()};
  }
};

}  // namespace

at::Tensor scale_gradient(const at::Tensor& value, double factor) {
  return ScaleGradient::apply(value, factor);
}

intro::TokenLoss ScaledTask::loss() {
  intro::TokenLoss loss = inner_.loss();
  const double factor = scaler_.get_scale();
  if (factor != 1) loss.sum = scale_gradient(loss.sum, factor);
  return loss;
}

ScaledSync::ScaledSync(intro::GradientSync& inner, GradScaler& scaler,
                       std::vector<intro::NamedParameter> parameters)
    : WrappedSync(inner), scaler_(scaler), parameters_(std::move(parameters)) {}

intro::SyncTimes ScaledSync::finish_step() {
  intro::SyncTimes times = inner_.finish_step();
  intro::StepClock clock(parameters_.front().tensor.device());
  std::vector<at::Tensor> gradients;
  for (const auto& parameter : parameters_) {
    if (parameter.tensor.grad().defined()) {
      gradients.push_back(parameter.tensor.grad());
    }
  }
  if (!scaler_.unscale(gradients)) ++skipped_;
  scaler_.update();
  times.add_ms += clock.lap_ms();
  return times;
}

}  // namespace dai::ddp
