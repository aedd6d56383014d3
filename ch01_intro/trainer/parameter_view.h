// SPDX-License-Identifier: Apache-2.0
#pragma once

// What this rank's optimizer updates. With plain data parallelism that is
// every parameter whole; with ZeRO and FSDP (chapters 4 and 5) a slice of it,
// and what follows an update is an all_gather. The trainer, the optimizer and
// gradient clipping see parameters only through this view.
//
//   WholeParameters view(model.parameters());
//   AdamW optimizer(view, {});
//   optimizer.step(rate);   // reads grad, writes value
//   view.after_update();
//
// Where a parameter may be cut so that no bit depends on who holds what:
//   its update   at multiples of kSliceAlignment elements (64)
//   its norm     at multiples of kNormBlock (65536) too: it is summed in double
//                over such blocks of each parameter, and the blocks' sums are
//                added in order of parameters and elements
// A view that cuts elsewhere adds parts of blocks; its norm, and with clipping
// its updates, then agree to rounding.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "ch01_intro/trainer/squared_sum.h"

#include "ch01_intro/named_parameter.h"

namespace dai::intro {

// Elements; a multiple of every vector width that PyTorch's kernels use. A
// slice begins at a multiple of it, so that no element changes between the
// vectors and the scalar rest of a kernel, which round differently.
inline constexpr std::int64_t kSliceAlignment = 64;

struct ParameterSlice {
  std::string name;    // of the whole parameter
  at::Tensor value;    // whole or a flat slice of it; no gradient graph
  at::Tensor grad;     // same shape and device
  bool decays = true;  // weight decay applies: matrices yes, norms no
};

class ParameterView {
 public:
  virtual ~ParameterView() = default;

  // The same slices in the same order in each step. grad is defined once the
  // GradientSync has finished the step.
  virtual std::vector<ParameterSlice> slices() = 0;

  // The sums of squares of the gradient's blocks, of all ranks together, in
  // the canonical order. [blocks] float64 on the CPU.
  virtual at::Tensor squared_norm_blocks() = 0;

  // All ranks have the new values once this returns.
  virtual void after_update() {}
};

// Every parameter whole, on every rank.
class WholeParameters : public ParameterView {
 public:
  explicit WholeParameters(std::vector<NamedParameter> parameters);

  // Throws std::logic_error that names a parameter without a gradient.
  std::vector<ParameterSlice> slices() override;
  at::Tensor squared_norm_blocks() override;

 private:
  std::vector<NamedParameter> parameters_;
};

// sqrt of the blocks' sum, added one after the other.
double gradient_norm(ParameterView& view);

// Scales the gradients by limit / norm where norm > limit. Returns the norm
// before. limit 0 only measures. A norm that is not finite changes nothing:
// LossWatch will refuse the step.
double clip_gradients(ParameterView& view, double limit);

}  // namespace dai::intro
