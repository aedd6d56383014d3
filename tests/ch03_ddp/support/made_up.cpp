// SPDX-License-Identifier: Apache-2.0
#include "tests/ch03_ddp/support/made_up.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include "ch01_intro/counter_random.h"
#include "ch03_ddp/ladder/make_sync.h"
#include "common/torch/process_group.h"

namespace dai::ddp::testing {

at::Tensor noise(const std::string& name, std::int64_t id,
                 at::IntArrayRef shape, at::Device device) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  const std::uint64_t key = intro::stream_key(id, name);
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    tensor.data_ptr<float>()[i] = intro::uniform01(key, i) - 0.5f;
  }
  return tensor.to(device);
}

std::vector<NamedParameter> layers(std::int64_t inputs,
                                   const std::vector<std::int64_t>& widths,
                                   at::Device device) {
  std::vector<NamedParameter> weights;
  for (const std::int64_t width : widths) {
    const std::string name = fmt::format("layers.{}.weight", weights.size());
    weights.push_back(
        {name, noise(name, 0, {width, inputs}, device).requires_grad_(true)});
    inputs = width;
  }
  return weights;
}

at::Tensor loss_of(const std::vector<NamedParameter>& weights,
                   std::int64_t microbatch) {
  const at::Tensor& first = weights.front().tensor;
  at::Tensor x =
      noise("inputs", microbatch, {8, first.size(1)}, first.device());
  for (const auto& weight : weights) x = x.matmul(weight.tensor.t()).tanh();
  return (x - noise("targets", microbatch, x.sizes(), x.device()))
      .square()
      .mean();
}

void run_step(intro::GradientSync& sync, std::int64_t microbatches,
              ProcessGroup& group, const Loss& loss) {
  const std::int64_t mine = microbatches / group.size();
  sync.begin_step();
  for (std::int64_t k = 0; k < mine; ++k) {
    const intro::Microbatch microbatch{group.rank() * mine + k, k + 1 == mine};
    sync.before_forward(microbatch);
    const at::Tensor value = loss(microbatch.id);
    sync.before_backward(microbatch, value);
    value.backward();
    sync.after_backward(microbatch);
  }
  sync.finish_step();
}

std::unique_ptr<intro::GradientSync> make_sync(
    const std::string& name, const std::vector<NamedParameter>& weights,
    std::int64_t microbatches, ProcessGroup& group, bool canonical,
    std::int64_t bucket_bytes) {
  SyncOptions options;
  options.exchange = canonical ? "canonical" : "all_reduce";
  options.caps = {bucket_bytes, bucket_bytes};
  return ddp::make_sync(name, options, weights, microbatches, group);
}

std::vector<at::Tensor> gradients_of(
    const std::vector<NamedParameter>& weights) {
  std::vector<at::Tensor> gradients;
  for (const auto& weight : weights) {
    gradients.push_back(weight.tensor.grad().clone());
  }
  return gradients;
}

}  // namespace dai::ddp::testing
