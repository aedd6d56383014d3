// SPDX-License-Identifier: Apache-2.0
#pragma once

// Models and steps for chapter 3's tests: small, and foretellable.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ch01_intro/named_parameter.h"
#include "ch01_intro/sync/gradient_sync.h"

namespace dai {
class ProcessGroup;
}

namespace dai::ddp::testing {

using intro::NamedParameter;

// Reproducible noise, equal on all ranks; `id` makes another one.
at::Tensor noise(const std::string& name, std::int64_t id,
                 at::IntArrayRef shape, at::Device device = at::kCPU);

// Weights "layers.0.weight" [width, inputs], ... of tanh layers, and one
// microbatch's loss of them: none of its gradients is exact.
std::vector<NamedParameter> layers(std::int64_t inputs,
                                   const std::vector<std::int64_t>& widths,
                                   at::Device device = at::kCPU);
at::Tensor loss_of(const std::vector<NamedParameter>& weights,
                   std::int64_t microbatch);

// One step as chapter 1's trainer does it.
using Loss = std::function<at::Tensor(std::int64_t microbatch)>;
void run_step(intro::GradientSync& sync, std::int64_t microbatches,
              ProcessGroup& group, const Loss& loss);

// The ladder's rungs by name, canonical or not.
std::unique_ptr<intro::GradientSync> make_sync(
    const std::string& name, const std::vector<NamedParameter>& weights,
    std::int64_t microbatches, ProcessGroup& group, bool canonical,
    std::int64_t bucket_bytes);

std::vector<at::Tensor> gradients_of(
    const std::vector<NamedParameter>& weights);

}  // namespace dai::ddp::testing
