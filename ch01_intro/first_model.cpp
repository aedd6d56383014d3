// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/first_model.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/relu.h>

#include <cmath>

#include "ch01_intro/counter_random.h"

namespace dai::intro {
namespace {

constexpr std::int64_t kWidths[] = {784, 256, 128, 10};
constexpr int kLayers = 3;

// Uniform in [-bound, bound), each element from its own counter.
at::Tensor uniform(std::uint64_t seed, const std::string& name,
                   at::IntArrayRef shape, float bound) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  const std::uint64_t key = stream_key(seed, name);
  float* data = tensor.data_ptr<float>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    data[i] = (2 * uniform01(key, i) - 1) * bound;
  }
  return tensor;
}

}  // namespace

FirstModel::FirstModel(std::uint64_t seed, at::Device device) {
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::int64_t in = kWidths[layer];
    const std::int64_t out = kWidths[layer + 1];
    const std::string name = "layer" + std::to_string(layer + 1);
    // He et al. 2015: keeps the activations' variance through a ReLU.
    const float bound = std::sqrt(6.0f / in);
    const auto add = [&](const std::string& suffix, at::Tensor value) {
      parameters_.push_back(
          {name + suffix, value.to(device).requires_grad_(true)});
    };
    add(".weight", uniform(seed, name + ".weight", {out, in}, bound));
    add(".bias", uniform(seed, name + ".bias", {out}, 0.01f));
  }
}

at::Tensor FirstModel::logits(const at::Tensor& images) const {
  at::Tensor x = images;
  for (int layer = 0; layer < kLayers; ++layer) {
    x = at::linear(x, parameters_[2 * layer].tensor,
                   parameters_[2 * layer + 1].tensor);
    if (layer + 1 < kLayers) x = at::relu(x);
  }
  return x;
}

at::Tensor FirstModel::loss(const at::Tensor& images,
                            const at::Tensor& labels) const {
  return at::cross_entropy_loss(logits(images), labels);
}

at::Tensor FirstModel::flat_parameters() const {
  std::vector<at::Tensor> parts;
  for (const auto& parameter : parameters_) {
    parts.push_back(parameter.tensor.detach().reshape(-1));
  }
  return at::cat(parts);
}

}  // namespace dai::intro
