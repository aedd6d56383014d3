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

#include "ch01_intro/trainer/parameter_view.h"
#include "ch03_ddp/precision/wrapped_sync.h"

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

class MasterSync : public WrappedSync {
 public:
  MasterSync(intro::GradientSync& inner, MasterWeights& masters)
      : WrappedSync(inner), masters_(masters) {}

  intro::SyncTimes finish_step() override;

 private:
  MasterWeights& masters_;
};

}  // namespace dai::ddp
