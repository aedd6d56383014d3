// SPDX-License-Identifier: Apache-2.0
#pragma once

// The first model of the book: a perceptron 784-256-128-10 with ReLU, written
// in plain tensor operations. 235,146 parameters: small enough that a
// laptop's step is a few milliseconds, large enough that its gradients are
// worth sending.
//
// Its initial weights are a function of (seed, parameter name, element) and of
// nothing else: every rank computes the same ones without asking rank 0, and a
// rank that holds only a shard could compute just that shard.
//
//   FirstModel model(/*seed=*/1234, group.device());
//   at::Tensor loss = model.loss(images, labels);  // scalar, mean over batch
//   loss.backward();
//
// Tensors are float32 on `device`.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "ch01_intro/named_parameter.h"

namespace dai::intro {

class FirstModel {
 public:
  FirstModel(std::uint64_t seed, at::Device device);

  // [batch, 784] in [0, 1] -> [batch, 10]
  at::Tensor logits(const at::Tensor& images) const;
  // Mean cross entropy. images: [batch, 784], labels: [batch] int64.
  at::Tensor loss(const at::Tensor& images, const at::Tensor& labels) const;

  const std::vector<NamedParameter>& parameters() const { return parameters_; }
  // A copy of all parameters, one after the other: [235146], on the device.
  at::Tensor flat_parameters() const;

 private:
  std::vector<NamedParameter> parameters_;
};

}  // namespace dai::intro
