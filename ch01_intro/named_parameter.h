// SPDX-License-Identifier: Apache-2.0
#pragma once

// What models hand to optimizers, gradient synchronisation and ledgers: a
// learnable tensor and the name by which checkpoints, initialisation and
// messages know it.

#include <ATen/core/Tensor.h>

#include <string>

namespace dai::intro {

struct NamedParameter {
  std::string name;   // "model.layers.0.mlp.up_proj.weight"
  at::Tensor tensor;  // a leaf that requires a gradient
};

}  // namespace dai::intro
