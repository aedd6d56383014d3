// SPDX-License-Identifier: Apache-2.0
#pragma once

// Two convolutions and two dense layers for 28 x 28 grey pictures in ten
// classes: 421,642 parameters.
//
//   images [n, 1, 28, 28]
//   conv1  [32, 1, 3, 3]   relu, max of 2 x 2   -> [n, 32, 14, 14]
//   conv2  [64, 32, 3, 3]  relu, max of 2 x 2   -> [n, 64, 7, 7]
//   dense1 [128, 3136]     relu                 -> [n, 128]
//   dense2 [10, 128]                            -> [n, 10] logits
//
//   FashionCnn cnn(/*seed=*/1234, device);
//   at::Tensor logits = cnn.forward(images);
//
// Initial weights are a function of (seed, name, element), equal on all ranks:
// deviation sqrt(2 / inputs) (He et al., 2015), biases zero.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "ch01_intro/named_parameter.h"

namespace dai::ddp {

class FashionCnn {
 public:
  FashionCnn(std::uint64_t seed, at::Device device);

  at::Tensor forward(const at::Tensor& images) const;
  const std::vector<intro::NamedParameter>& parameters() const {
    return parameters_;
  }

 private:
  const at::Tensor& weight(std::size_t layer) const {
    return parameters_[2 * layer].tensor;
  }
  const at::Tensor& bias(std::size_t layer) const {
    return parameters_[2 * layer + 1].tensor;
  }
  std::vector<intro::NamedParameter> parameters_;  // weight, bias by layer
};

}  // namespace dai::ddp
