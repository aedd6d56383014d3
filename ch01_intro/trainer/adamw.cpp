// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/trainer/adamw.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include <stdexcept>

#include "common/errors.h"

namespace dai::intro {

void AdamWOptions::check() const {
  const auto is_beta = [](double beta) { return beta >= 0 && beta < 1; };
  if (!is_beta(beta1) || !is_beta(beta2)) {
    throw UsageError(fmt::format(
        "AdamW betas {} and {}: numbers from 0 to below 1 are expected", beta1,
        beta2));
  }
  if (!(eps > 0) || !(weight_decay >= 0)) {
    throw UsageError(fmt::format(
        "AdamW eps {} and weight decay {}: above 0, and not below 0, are "
        "expected",
        eps, weight_decay));
  }
}

AdamW::AdamW(ParameterView& view, const AdamWOptions& options)
    : view_(view), options_(options) {
  options_.check();
  for (const ParameterSlice& slice : view_.slices()) {
    states_.push_back(
        {.name = slice.name,
         .m = at::zeros_like(slice.value),
         .v = at::zeros_like(slice.value),
         .step = at::zeros({}, slice.value.options().dtype(at::kFloat))});
  }
}

void AdamW::step(double learning_rate) {
  const at::NoGradGuard no_grad;
  // The fused kernel takes lists that share one weight decay.
  struct Lists {
    std::vector<at::Tensor> values, grads, m, v, steps;
  };
  Lists decaying, free;
  const std::vector<ParameterSlice> slices = view_.slices();
  if (slices.size() != states_.size()) {
    throw std::logic_error("AdamW: the number of slices has changed");
  }
  for (std::size_t i = 0; i < slices.size(); ++i) {
    const ParameterSlice& slice = slices[i];
    State& state = states_[i];
    if (slice.name != state.name ||
        !slice.value.sizes().equals(state.m.sizes())) {
      throw std::logic_error(
          fmt::format("AdamW: slice {} stands where {} stood before",
                      slice.name, state.name));
    }
    if (!slice.grad.defined()) {
      throw std::logic_error(
          fmt::format("AdamW: parameter {} has no gradient", slice.name));
    }
    Lists& lists = slice.decays ? decaying : free;
    lists.values.push_back(slice.value);
    lists.grads.push_back(slice.grad);
    lists.m.push_back(state.m);
    lists.v.push_back(state.v);
    lists.steps.push_back(state.step);
  }
  const auto update = [&](Lists& lists, double weight_decay) {
    if (lists.values.empty()) return;
    at::_foreach_add_(lists.steps, 1);  // on CUDA one kernel for all of them
    at::_fused_adamw_(lists.values, lists.grads, lists.m, lists.v,
                      /*max_exp_avg_sqs=*/{}, lists.steps, learning_rate,
                      options_.beta1, options_.beta2, weight_decay,
                      options_.eps, /*amsgrad=*/false, /*maximize=*/false);
  };
  update(decaying, options_.weight_decay);
  update(free, 0);
  view_.after_update();
}

}  // namespace dai::intro
