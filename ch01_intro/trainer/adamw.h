// SPDX-License-Identifier: Apache-2.0
#pragma once

// AdamW (Loshchilov, Hutter: Decoupled weight decay regularization, 2019) on a
// ParameterView, through at::_fused_adamw_: one pass over value, gradient and
// both moments, on CPU and CUDA. torch::optim::AdamW makes a pass for each
// operation of the formula.
//
//   m = beta1 m + (1 - beta1) g          v = beta2 v + (1 - beta2) g^2
//   w = w - lr * (decay * w + (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t))
//                                                    + eps))
//
//   AdamW optimizer(view, {.weight_decay = 0.1});
//   optimizer.step(/*learning_rate=*/3e-4);
//
// State: m and v, each of the slice's shape and dtype, and a float32 step count
// a slice. The bits of an element do not depend on how its parameter was cut
// as long as cuts lie at multiples of kSliceAlignment: the kernel computes in
// vectors and finishes with scalars, which round differently. Norms and other
// vectors do not decay. Errors: std::logic_error when the view's slices change
// between steps or a gradient is missing.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "ch01_intro/trainer/parameter_view.h"

namespace dai::intro {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;

  void check() const;  // throws UsageError
};

class AdamW {
 public:
  // Keeps `view`, which must outlive it. States begin at zero.
  AdamW(ParameterView& view, const AdamWOptions& options);

  void step(double learning_rate);

  struct State {
    std::string name;
    at::Tensor m, v, step;
  };
  const std::vector<State>& states() const { return states_; }

 private:
  ParameterView& view_;
  AdamWOptions options_;
  std::vector<State> states_;
};

}  // namespace dai::intro
