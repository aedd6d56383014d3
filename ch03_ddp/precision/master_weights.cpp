// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/precision/master_weights.h"

#include <ATen/core/grad_mode.h>

#include <utility>

#include "ch01_intro/sync/step_clock.h"

namespace dai::ddp {

using intro::NamedParameter;

namespace {

std::vector<NamedParameter> copies_in_float32(
    const std::vector<NamedParameter>& parameters) {
  std::vector<NamedParameter> masters;
  for (const auto& [name, tensor] : parameters) {
    masters.push_back({name, tensor.detach()
                                 .to(at::kFloat, /*non_blocking=*/false,
                                     /*copy=*/true)
                                 .requires_grad_(true)});
  }
  return masters;
}

}  // namespace

void to_half(const std::vector<NamedParameter>& parameters,
             at::ScalarType dtype) {
  for (const auto& parameter : parameters) {
    parameter.tensor.set_data(parameter.tensor.detach().to(dtype));
  }
}

MasterWeights::MasterWeights(std::vector<NamedParameter> parameters)
    : parameters_(std::move(parameters)),
      masters_(copies_in_float32(parameters_)),
      view_(masters_) {}

void MasterWeights::take_gradients() {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    at::Tensor& gradient = parameters_[i].tensor.mutable_grad();
    at::Tensor& master = masters_[i].tensor.mutable_grad();
    master = gradient.defined() ? gradient.to(at::kFloat) : at::Tensor();
    gradient.reset();
  }
}

void MasterWeights::after_update() {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    parameters_[i].tensor.copy_(masters_[i].tensor);
  }
}

intro::SyncTimes MasterSync::finish_step() {
  intro::SyncTimes times = inner_.finish_step();
  intro::StepClock clock(masters_.masters().front().tensor.device());
  masters_.take_gradients();
  times.add_ms += clock.lap_ms();
  return times;
}

}  // namespace dai::ddp
