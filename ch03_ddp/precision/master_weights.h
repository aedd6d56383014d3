// SPDX-License-Identifier: Apache-2.0
#pragma once

// A model in float16 or bfloat16, its optimizer in float32 (Micikevicius et
// al., Mixed Precision Training, ICLR 2018). An update is often smaller than
// the last bit of a half-precision weight and would vanish in it; so the
// optimizer works on float32 copies, the masters, which the model's weights are
// rounded from after each update.
//
//   to_half(decoder.parameters(), at::kBFloat16);
//   MasterWeights masters(decoder.parameters());
//   MasterSync sync(inner_sync, masters);     // gradients become float32
//   Trainer trainer(task, sync, masters, &group, options, device);
//
// Bytes a parameter: 2 + 2 for weight and gradient, 4 + 4 for their masters;
// float32 alone would have 4 + 4. What is won is compute and wire, not memory.

#include <vector>

#include "ch01_intro/sync/gradient_sync.h"
#include "ch01_intro/trainer/parameter_view.h"

namespace dai::ddp {

// Converts leaves in place, rounding to nearest. Before any forward.
void to_half(const std::vector<intro::NamedParameter>& parameters,
             at::ScalarType dtype);

class MasterWeights : public intro::ParameterView {
 public:
  explicit MasterWeights(std::vector<intro::NamedParameter> parameters);

  // float32 leaves, by the model's names.
  const std::vector<intro::NamedParameter>& masters() const { return masters_; }
  // The model's gradients, converted, become the masters'; the model's go.
  void take_gradients();

  std::vector<intro::ParameterSlice> slices() override {
    return view_.slices();
  }
  at::Tensor squared_norm_blocks() override {
    return view_.squared_norm_blocks();
  }
  // Rounds the masters into the model's weights.
  void after_update() override;

 private:
  const std::vector<intro::NamedParameter> parameters_;
  const std::vector<intro::NamedParameter> masters_;
  intro::WholeParameters view_;
};

class MasterSync : public intro::GradientSync {
 public:
  MasterSync(intro::GradientSync& inner, MasterWeights& masters)
      : inner_(inner), masters_(masters) {}

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
  intro::SyncTimes finish_step() override;

 private:
  intro::GradientSync& inner_;
  MasterWeights& masters_;
};

}  // namespace dai::ddp
