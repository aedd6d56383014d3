// SPDX-License-Identifier: Apache-2.0
#pragma once

// torch.amp.GradScaler for C++ (LibTorch has its two operators, not the class:
// pytorch #44710), with its names and defaults. float16 ends at 6e-8 below and
// gradients go under it; so the loss is multiplied by a large number before
// backward and the gradients are divided by it afterwards. The number is found
// by trial: too large a one makes gradients infinite, the step is skipped, and
// it is halved; it doubles after 2000 good steps.
//
//   GradScaler scaler({}, &group, device);
//   scaler.scale(loss).backward();
//   if (scaler.unscale({grads})) optimizer.step();   // all gradients finite?
//   scaler.update();
//
// With a group all ranks skip together: one rank's overflow is everybody's.
// bfloat16 needs none of this: it has float32's exponents.

#include <ATen/core/Tensor.h>

#include <vector>

namespace dai {
class ProcessGroup;
}

namespace dai::ddp {

struct GradScalerOptions {
  double init_scale = 65536;
  double growth_factor = 2;
  double backoff_factor = 0.5;
  std::int64_t growth_interval = 2000;  // good steps in a row
  bool enabled = true;                  // false: does nothing, scale is 1

  // UsageError unless init_scale > 0 and a float32, growth_factor > 1,
  // 0 < backoff_factor < 1 and growth_interval >= 1.
  void check() const;
};

class GradScaler {
 public:
  // A null group: this rank decides alone.
  GradScaler(const GradScalerOptions& options, ProcessGroup* group,
             at::Device device);

  at::Tensor scale(const at::Tensor& loss) const;
  // Divides the gradients by the scale, in place, and says whether all of them
  // are finite, on all ranks. Collective. Once a step (std::logic_error).
  // Sparse and float16 gradients are refused (std::invalid_argument).
  bool unscale(const std::vector<at::Tensor>& gradients);
  // Chooses the next step's scale by what unscale() has found; without it
  // std::logic_error.
  void update();

  double get_scale() const;
  // For checkpoints, as GradScaler.state_dict().
  struct State {
    double scale = 0;
    std::int64_t growth_tracker = 0;  // good steps since the last change
  };
  State state() const;
  // UsageError for a scale that is none. Nothing where it is not enabled.
  void load(const State& state);

 private:
  const GradScalerOptions options_;
  ProcessGroup* const group_;
  at::Tensor scale_;           // float32 [1]
  at::Tensor growth_tracker_;  // int32 [1]
  at::Tensor found_inf_;       // float32 [1]
  bool unscaled_ = false;      // since the last update()
};

}  // namespace dai::ddp
