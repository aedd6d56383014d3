// SPDX-License-Identifier: Apache-2.0
#pragma once

// A sync around another one that does something of its own when a step's
// gradients are there: passes everything on but finish_step().

#include "ch01_intro/sync/gradient_sync.h"

namespace dai::ddp {

class WrappedSync : public intro::GradientSync {
 public:
  // Keeps the reference.
  explicit WrappedSync(intro::GradientSync& inner) : inner_(inner) {}

  void begin_step() override { inner_.begin_step(); }
  void before_forward(const intro::Microbatch& microbatch) override {
    inner_.before_forward(microbatch);
  }
  void before_backward(const intro::Microbatch& microbatch,
                       const at::Tensor& loss) override {
    inner_.before_backward(microbatch, loss);
  }
  void after_backward(const intro::Microbatch& microbatch) override {
    inner_.after_backward(microbatch);
  }

 protected:
  intro::GradientSync& inner_;
};

}  // namespace dai::ddp
