// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/precision/grad_scaler.h"

#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_amp_update_scale.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <map>
#include <stdexcept>

#include "common/errors.h"
#include "common/torch/process_group.h"

namespace dai::ddp {

void GradScalerOptions::check() const {
  constexpr double kMost = std::numeric_limits<float>::max();
  if (!(init_scale > 0) || !(init_scale <= kMost) || !(growth_factor > 1) ||
      !(backoff_factor > 0 && backoff_factor < 1) || growth_interval < 1) {
    throw UsageError(fmt::format(
        "loss scaling from {} by {} and {} every {} steps: a positive scale, a "
        "growth above 1, a backoff between 0 and 1 and at least 1 step are "
        "expected",
        init_scale, growth_factor, backoff_factor, growth_interval));
  }
}

GradScaler::GradScaler(const GradScalerOptions& options, ProcessGroup* group,
                       at::Device device)
    : options_((options.check(), options)),
      group_(group),
      scale_(at::full({1}, options.enabled ? options.init_scale : 1,
                      at::TensorOptions(device).dtype(at::kFloat))),
      growth_tracker_(
          at::zeros({1}, at::TensorOptions(device).dtype(at::kInt))),
      found_inf_(at::zeros_like(scale_)) {}

at::Tensor GradScaler::scale(const at::Tensor& loss) const {
  return options_.enabled ? loss * scale_.squeeze() : loss;
}

bool GradScaler::unscale(const std::vector<at::Tensor>& gradients) {
  if (unscaled_) {
    throw std::logic_error("GradScaler: unscale() twice without update()");
  }
  unscaled_ = true;
  if (!options_.enabled) return true;
  found_inf_.zero_();
  const at::Tensor inverse = scale_.to(at::kDouble).reciprocal().to(at::kFloat);
  // The operator takes tensors of one dtype at a time.
  std::map<at::ScalarType, std::vector<at::Tensor>> by_dtype;
  for (const at::Tensor& gradient : gradients) {
    if (gradient.is_sparse()) {
      throw std::invalid_argument("GradScaler: a sparse gradient");
    }
    if (gradient.scalar_type() == at::kHalf) {
      throw std::invalid_argument(
          "GradScaler: a float16 gradient would underflow when it is divided: "
          "keep float32 masters");
    }
    by_dtype[gradient.scalar_type()].push_back(gradient);
  }
  for (auto& [dtype, list] : by_dtype) {
    at::_amp_foreach_non_finite_check_and_unscale_(list, found_inf_, inverse);
  }
  if (group_ != nullptr) group_->all_reduce(found_inf_, ReduceOp::kMax);
  return found_inf_.item<float>() == 0;
}

void GradScaler::update() {
  if (!unscaled_) {
    throw std::logic_error("GradScaler: update() without unscale()");
  }
  unscaled_ = false;
  if (!options_.enabled) return;
  at::_amp_update_scale_(scale_, growth_tracker_, found_inf_,
                         options_.growth_factor, options_.backoff_factor,
                         options_.growth_interval);
}

double GradScaler::get_scale() const {
  return scale_.item<float>();
}

GradScaler::State GradScaler::state() const {
  return {get_scale(), growth_tracker_.item<std::int32_t>()};
}

void GradScaler::load(const State& state) {
  if (!(state.scale > 0) || !std::isfinite(state.scale) ||
      state.growth_tracker < 0) {
    throw UsageError(fmt::format("loss scale {} after {} good steps",
                                 state.scale, state.growth_tracker));
  }
  if (!options_.enabled) return;
  scale_.fill_(state.scale);
  growth_tracker_.fill_(state.growth_tracker);
}

}  // namespace dai::ddp
