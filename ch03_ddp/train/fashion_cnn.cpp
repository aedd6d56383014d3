// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/train/fashion_cnn.h"

#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <span>
#include <string>

#include "ch01_intro/counter_random.h"
#include "ch01_intro/decoder/initialization.h"

namespace dai::ddp {
namespace {

struct Layer {
  const char* name;
  std::vector<std::int64_t> shape;
};

const std::vector<Layer>& layers() {
  static const std::vector<Layer> all{{"conv1", {32, 1, 3, 3}},
                                      {"conv2", {64, 32, 3, 3}},
                                      {"dense1", {128, 64 * 7 * 7}},
                                      {"dense2", {10, 128}}};
  return all;
}

}  // namespace

FashionCnn::FashionCnn(std::uint64_t seed, at::Device device) {
  for (const Layer& layer : layers()) {
    const std::string name = std::string(layer.name) + ".weight";
    at::Tensor weight = at::empty(layer.shape, at::kFloat);
    const double inputs =
        static_cast<double>(weight.numel() / layer.shape.front());
    intro::fill_bell_shaped(
        intro::stream_key(seed, name), 0, std::sqrt(2 / inputs),
        {weight.data_ptr<float>(), static_cast<std::size_t>(weight.numel())});
    parameters_.push_back({name, weight.to(device).requires_grad_(true)});
    parameters_.push_back(
        {std::string(layer.name) + ".bias",
         at::zeros({layer.shape.front()}, at::TensorOptions(device))
             .requires_grad_(true)});
  }
}

at::Tensor FashionCnn::forward(const at::Tensor& images) const {
  at::Tensor x = images;
  for (const std::size_t layer : {0, 1}) {
    x = at::conv2d(x, weight(layer), bias(layer), /*stride=*/1, /*padding=*/1);
    x = at::max_pool2d(x.relu(), /*kernel_size=*/2);
  }
  x = at::linear(x.flatten(1), weight(2), bias(2)).relu();
  return at::linear(x, weight(3), bias(3));
}

}  // namespace dai::ddp
